"""What a person reads: the tables of the terminal, and the report as an HTML page."""
