"""Numbers that say how good a dense answer is, gathered image by image or region batch by region batch."""
