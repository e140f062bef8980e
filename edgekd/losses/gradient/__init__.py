"""Filters of gradients (C03)."""
