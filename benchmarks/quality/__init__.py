"""What adapters score, and whether what lora_tune says about them holds."""
