"""Models as graphs for machines without the code that trained them: written by `export`, read by `load_exported`."""
