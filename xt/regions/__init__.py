"""Nested tokenization: an image as regions, read batch by batch, and their tokens as one sequence."""
