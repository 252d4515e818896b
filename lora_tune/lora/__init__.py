"""LoRA: target modules, attachment, initialization and combination."""
