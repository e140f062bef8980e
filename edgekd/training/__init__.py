"""Training, used by every stage that trains: the loop, the objective and the augmentations."""
