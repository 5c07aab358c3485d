"""What several context encoders share: attention in blocks and windows, scans, positions, segments."""
