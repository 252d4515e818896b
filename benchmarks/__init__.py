"""Measurements of speed and quality, and comparisons with other tools; see README.md."""
