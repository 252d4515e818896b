"""Numbers and how sure they are: pure functions on arrays."""
