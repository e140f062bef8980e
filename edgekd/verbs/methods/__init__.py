"""The catalogue of methods, and the bench that tries them."""
