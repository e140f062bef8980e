"""Several teachers (C04)."""
