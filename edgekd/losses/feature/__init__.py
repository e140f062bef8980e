"""Losses between what happens inside student and teacher (C02)."""
