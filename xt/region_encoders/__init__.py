"""Region encoders: pixels of a region -> feature maps -> tokens."""
