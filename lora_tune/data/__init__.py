"""Rows read from a source, checked, split, tokenized and batched."""
