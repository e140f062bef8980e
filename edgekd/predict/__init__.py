"""Latency and energy without the board: predicted, never measured."""
