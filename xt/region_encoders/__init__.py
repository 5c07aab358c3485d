"""Region encoders: pixels of a region -> feature maps -> tokens; see `xt.region_encoders.base`."""
