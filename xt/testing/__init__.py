"""Contract suites that every source of pixels, encoder and head inherits; needs pytest."""
