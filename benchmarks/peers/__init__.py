"""lora_tune compared with other tools, each in its own environment."""
