"""The image in a browser with everything a model knows on top: tiles, layers, corrections, and a server.

Everything below the page; it asks the library and never the command line.
"""
