"""Labelled images: tables and folders, splits, augmentation, pixel statistics."""
