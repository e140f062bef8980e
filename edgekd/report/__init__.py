"""What a person reads at the end: the terminal table."""
