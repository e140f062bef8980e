"""Teachers that see other data than the student (C05)."""
