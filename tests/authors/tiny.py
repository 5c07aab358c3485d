"""Checkpoints small enough to be drawn on the spot, in the authors' names; numpy's frozen stream, for ever the same."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

CLASSES = 5
DIM = 128
INNER = 32
REGION = 128


def swin_shapes(width: int = 8, depths: tuple[int, ...] = (2, 1, 1, 1)) -> dict[str, tuple[int, ...]]:
    """Regions of 128 pixels give the second block of the first stage a shift."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, 3, 4, 4),
        "patch_embed.proj.bias": (width,),
        "patch_embed.norm.weight": (width,),
        "patch_embed.norm.bias": (width,),
    }
    for stage, depth in enumerate(depths):
        dim, heads = width * 2**stage, 2**stage
        if stage:
            shapes[f"layers_{stage}.downsample.reduction.weight"] = (dim, 2 * dim)
            shapes |= _norm(f"layers_{stage}.downsample.norm", dim)
        for block in range(depth):
            name = f"layers_{stage}.blocks.{block}"
            shapes |= {
                f"{name}.attn.logit_scale": (heads, 1, 1),
                f"{name}.attn.q_bias": (dim,),
                f"{name}.attn.v_bias": (dim,),
                f"{name}.attn.cpb_mlp.0.weight": (512, 2),
                f"{name}.attn.cpb_mlp.0.bias": (512,),
                f"{name}.attn.cpb_mlp.2.weight": (heads, 512),
                f"{name}.attn.qkv.weight": (3 * dim, dim),
            }
            shapes |= _linear(f"{name}.attn.proj", dim, dim) | _norm(f"{name}.norm1", dim)
            shapes |= _linear(f"{name}.mlp.fc1", 2 * dim, dim) | _linear(f"{name}.mlp.fc2", dim, 2 * dim)
            shapes |= _norm(f"{name}.norm2", dim)
    return {f"encoder.model.{name}": shape for name, shape in shapes.items()}


def hiera_shapes(region_size: int = 64, depths: tuple[int, ...] = (1, 2, 2, 1)) -> dict[str, tuple[int, ...]]:
    """The narrowest Hiera there is; a mask unit is 32 pixels."""
    width = 96
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, (region_size // 4) ** 2, width),
        "patch_embed.proj.weight": (width, 3, 7, 7),
        "patch_embed.proj.bias": (width,),
    }
    number, before = 0, width
    for stage, depth in enumerate(depths):
        dim = width * 2**stage
        for _ in range(depth):
            name = f"blocks.{number}"
            shapes |= _norm(f"{name}.norm1", before) | _linear(f"{name}.attn.qkv", 3 * dim, before)
            if before != dim:
                shapes |= _linear(f"{name}.proj", dim, before)
            shapes |= _linear(f"{name}.attn.proj", dim, dim) | _norm(f"{name}.norm2", dim)
            shapes |= _linear(f"{name}.mlp.fc1", dim, dim) | _linear(f"{name}.mlp.fc2", dim, dim)
            number, before = number + 1, dim
    return {f"encoder.model.{name}": shape for name, shape in shapes.items()}


def head_shapes(head: str, channels: int, layers: int = 2) -> dict[str, tuple[int, ...]]:
    """`head`: none, mamba, or attention, which is hyper or naive."""
    if head == "none":
        shapes = _linear("layers.0", INNER, channels) | _norm("layers.2", INNER)
        shapes |= _linear("layers.3", CLASSES, INNER)
        return {f"decoder.{name}": shape for name, shape in shapes.items()}
    shapes = {"cls_token": (1, 1, DIM)} | _linear("input_proj", DIM, channels)
    for layer in range(layers):
        name = f"layers.{layer}"
        shapes |= _mamba(name) if head == "mamba" else _attention(name)
    shapes |= _norm("cls.0", DIM) | _linear("cls.1", CLASSES, DIM)
    return {f"decoder.{name}": shape for name, shape in shapes.items()}


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights under which no part of the computation vanishes, exact in float32."""
    random = np.random.RandomState(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape)
        if name.endswith("A_log"):
            values = np.log(np.arange(1, 17)) + 0.1 * values
        elif name.endswith("logit_scale"):
            values = math.log(10) + 0.3 * values
        elif name.endswith(".D") or ("norm" in name and name.endswith("weight")):
            values = 1 + 0.3 * values
        elif len(shape) > 1 and not name.endswith(("cls_token", "pos_embed")):
            values /= math.sqrt(np.prod(shape[1:]))
        else:
            values *= 0.3
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors


def draw_images(height: int, width: int, count: int = 1, seed: int = 1) -> Tensor:
    values = np.random.RandomState(seed).standard_normal((count, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def swin(head: str, seed: int = 0) -> dict[str, Tensor]:
    """A whole checkpoint with the tiny Swin-V2."""
    return draw(swin_shapes() | head_shapes(head, 64), seed)


def hiera(head: str, seed: int = 0) -> dict[str, Tensor]:
    return draw(hiera_shapes() | head_shapes(head, 768), seed)


def _attention(name: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.input_layernorm.weight": (DIM,),
        f"{name}.post_attention_layernorm.weight": (DIM,),
        f"{name}.mlp.gate_proj.weight": (INNER, DIM),
        f"{name}.mlp.up_proj.weight": (INNER, DIM),
        f"{name}.mlp.down_proj.weight": (DIM, INNER),
        **_linear(f"{name}.attn.qkv", 3 * DIM, DIM),
        **_linear(f"{name}.attn.proj", DIM, DIM),
    }


def _mamba(name: str) -> dict[str, tuple[int, ...]]:
    inner = 2 * DIM
    return {
        f"{name}.mixer.A_log": (inner, 16),
        f"{name}.mixer.D": (inner,),
        f"{name}.mixer.in_proj.weight": (2 * inner, DIM),
        f"{name}.mixer.conv1d.weight": (inner, 1, 4),
        f"{name}.mixer.conv1d.bias": (inner,),
        f"{name}.mixer.x_proj.weight": (DIM // 16 + 32, inner),
        **_linear(f"{name}.mixer.dt_proj", inner, DIM // 16),
        f"{name}.mixer.out_proj.weight": (DIM, inner),
        **_norm(f"{name}.norm", DIM),
    }


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
