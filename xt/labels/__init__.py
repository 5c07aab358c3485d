"""What is known of images: tables of points and boxes, masks and polygons, laid on their images, and merged."""
