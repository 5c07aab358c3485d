"""Which graphs of region batches are kept: said without PyTorch, as configurations are read without it."""

from typing import Literal

Keep = Literal["auto", "none", "all"] | int
