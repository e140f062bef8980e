"""Orders and combinations of prune, quantize and distill against each other, with equal epochs."""
