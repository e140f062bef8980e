"""Losses between the answers of student and teacher (C01)."""
