"""What an image is, as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def told_facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and what is said of them."""
    yield "size", f"{facts['height']:,} x {facts['width']:,} pixels (height x width)"
    yield "values", f"{len(facts['channels'])} of {facts['dtype']}"
    if facts["microns_per_pixel"]:
        y, x = facts["microns_per_pixel"]
        yield "a pixel", f"{y:.4g} x {x:.4g} µm"
    elif facts["metres_per_pixel"]:
        y, x = facts["metres_per_pixel"]
        yield "a pixel", f"{y:.4g} x {x:.4g} m"
    if facts["crs"]:
        yield "map", facts["crs"] if len(facts["crs"]) < 40 else f"{facts['crs'][:40]}…"
