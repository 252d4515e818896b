"""The machine, the cache, the Hugging Face Hub and atomic directories."""
