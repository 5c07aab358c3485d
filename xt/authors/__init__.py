"""The authors' own computation, to run the weights they released. See `xt.authors.model`."""

from xt.authors.checkpoint import load_authors_checkpoint
from xt.authors.model import AuthorsModel

__all__ = ["AuthorsModel", "load_authors_checkpoint"]
