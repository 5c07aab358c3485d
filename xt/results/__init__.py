"""What answers become on disk and in pictures: rasters, GeoJSON, tables, overlays, and the store that holds an image
half-way; plain arrays in, files out, no model and no torch."""
