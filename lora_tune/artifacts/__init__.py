"""What a run leaves, verified and loaded again."""
