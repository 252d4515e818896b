"""What makes training faster, and changes nothing but what dropout draws; laws for each file."""
