"""Launches: a model is measured in a process of its own, which holds the runtime and nothing else."""
