"""One training run, on transformers.Trainer."""
