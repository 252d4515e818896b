"""What people look at: terminal tables, plots and HTML."""
