"""Training, evaluation and comparison: what turns a configuration and a table into a model and numbers."""
