"""What makes training faster and changes nothing else; each file has laws of its own."""
