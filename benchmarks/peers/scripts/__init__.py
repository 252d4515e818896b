"""One script per contestant, run with the Python of its own environment."""
