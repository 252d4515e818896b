"""Base models: found, configured, loaded and quantized."""
