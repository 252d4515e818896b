"""Fine-tune a model with LoRA from a recipe file, and know that it worked."""
