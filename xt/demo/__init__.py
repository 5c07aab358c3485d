"""The demo: large images of digits on clutter, xT and its rivals trained on them, a report (`xt demo`)."""
