"""Models: safe loading, signatures, and the bundled reference networks."""
