"""What the weights in a file seem to be of, told by their names and shapes: said of those that do not fit."""

import re
from collections.abc import Mapping

import timm
from torch import Tensor

_WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}
_PATCHES = "patch_embed.proj.weight"
_MOST_NAMED = 3


def what_it_seems(tensors: Mapping[str, Tensor], prefix: str = "") -> str:
    """A sentence without its full stop.

    Args:
        prefix: behind which the names of a network stand.
    """
    bare = {name.removeprefix(prefix): value for name, value in tensors.items()}
    patches = next((value for name, value in bare.items() if name.endswith(_PATCHES)), None)
    depth = _depth(bare, "blocks")
    if patches is not None and patches.dim() == 4 and depth:
        return _transformer(bare, patches, depth)
    stages = max(_depth(bare, word) for word in ("stages", "layers", "layer"))
    if stages:
        first = next((value for value in bare.values() if value.dim() == 4), None)
        width = "" if first is None else f", the first layer with {first.shape[0]} channels"
        return f"They seem to be of a network of {stages} stages{width}"
    largest = sorted(bare, key=lambda name: -bare[name].numel())[:_MOST_NAMED]
    return "It holds " + ", ".join(f"{name} {tuple(bare[name].shape)}" for name in largest)


def _transformer(tensors: Mapping[str, Tensor], patches: Tensor, depth: int) -> str:
    width, channels, side = patches.shape[0], patches.shape[1], patches.shape[-1]
    registers = next(
        (
            tensors[name].shape[1]
            for name in ("register_tokens", "storage_tokens", "reg_token")
            if name in tensors and tensors[name].dim() == 3
        ),
        0,
    )
    said = f"They seem to be of a vision transformer of {depth} blocks of width {width} on patches of {side} pixels"
    said += f" of {channels} channels" if channels != 3 else ""
    said += f" with {registers} registers" if registers else ""
    names = [name for name in _names(tensors, width, side, registers) if timm.is_model(name)]
    return said + (f", such as {names[0]}" if names else "")


def _names(tensors: Mapping[str, Tensor], width: int, side: int, registers: int) -> list[str]:
    """timm's, the likeliest first."""
    base = f"vit_{_WIDTHS.get(width, '')}_patch{side}"
    if "storage_tokens" in tensors or any("rope" in name for name in tensors):
        biased = any(name.endswith("qkv.bias") and bool(value.any()) for name, value in tensors.items())
        return [f"{base}_dinov3_qkvb", f"{base}_dinov3"] if biased else [f"{base}_dinov3"]
    registered = f"_reg{registers}" if registers else ""
    scaled = any(".ls1." in name for name in tensors)
    return [f"{base}{registered}_dinov2", f"{base}_224"] if scaled else [f"{base}_224", f"{base}_dinov2"]


def _depth(tensors: Mapping[str, Tensor], word: str) -> int:
    """How many there are of what is numbered behind a word."""
    found = (re.search(rf"(?:^|\.){word}\.?(\d+)\.", name) for name in tensors)
    return len({int(match[1]) for match in found if match})
