"""Files of labels as other programs write them, one file a format."""
