"""The authors' computation once more, slowly: plain functions of a state dict, pixel by pixel where that is clearest.

Written from the description of their code and the papers, with no timm and nothing of `xt`. Works in the tensors' own
type, so that it can be run in float64.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def logits(
    weights: Weights, images: Tensor, region: int, attention: str | None, pretrained: int = 0
) -> Tensor:
    """Of images (B, 3, height, width), one region after the other."""
    encode = hiera if "encoder.model.pos_embed" in weights else swin
    answers = []
    for image in images:
        strips = [
            torch.cat(
                [
                    encode(weights, image[:, top : top + region, left : left + region], pretrained)
                    for left in range(0, image.shape[2], region)
                ],
                dim=1,
            )
            for top in range(0, image.shape[1], region)
        ]
        answers.append(head(weights, torch.cat(strips, dim=0), attention))
    return torch.stack(answers)


# --- region encoders: (3, S, S) -> (S / 32, S / 32, C) ---


def swin(weights: Weights, pixels: Tensor, pretrained: int) -> Tensor:
    take = _Taker(weights, "encoder.model.")
    patches = pixels.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).flatten(2)
    features = patches @ take("patch_embed.proj.weight").flatten(1).T + take("patch_embed.proj.bias")
    features = _norm(features, take, "patch_embed.norm")
    for stage in range(4):
        if stage:
            corners = [features[row::2, column::2] for column in (0, 1) for row in (0, 1)]
            merged = torch.cat(corners, dim=-1) @ take(f"layers_{stage}.downsample.reduction.weight").T
            features = _norm(merged, take, f"layers_{stage}.downsample.norm")
        block = 0
        while f"encoder.model.layers_{stage}.blocks.{block}.norm1.weight" in weights:
            name = f"layers_{stage}.blocks.{block}"
            window = pretrained // 2 if stage == 3 else pretrained
            mixed = _shifted_windows(features, take, f"{name}.attn", block % 2 == 1, window)
            features = features + _norm(mixed, take, f"{name}.norm1")
            features = features + _norm(_mlp(features, take, f"{name}.mlp"), take, f"{name}.norm2")
            block += 1
    return features


def _shifted_windows(features: Tensor, take: "_Taker", name: str, odd: bool, pretrained: int) -> Tensor:
    """All pairs of cells are scored; those of different windows are then struck out."""
    side, _, dim = features.shape
    window = min(16, side)
    shift = 8 if odd and side > 16 else 0
    cells = features.flatten(0, 1)
    bias = torch.cat((take(f"{name}.q_bias"), torch.zeros(dim).to(cells), take(f"{name}.v_bias")))
    heads = take(f"{name}.logit_scale").shape[0]
    queries, keys, values = (
        (cells @ take(f"{name}.qkv.weight").T + bias).view(-1, 3, heads, dim // heads).unbind(1)
    )

    row = torch.arange(side).repeat_interleave(side)
    column = torch.arange(side).repeat(side)
    rolled = torch.stack(((row - shift) % side, (column - shift) % side), dim=1)
    window_of = (rolled // window) @ torch.tensor([1000, 1])
    zone_of = ((rolled >= side - window).long() + (rolled >= side - shift).long()) @ torch.tensor([1000, 1])
    distance = rolled[:, None] - rolled[None]
    table = _bias_table(take, name, window, pretrained)
    clamped = distance.clamp(1 - window, window - 1) + window - 1
    position = table[clamped[..., 0], clamped[..., 1]]

    outputs = []
    for head in range(heads):
        q, k = (part[:, head] / part[:, head].norm(dim=1, keepdim=True) for part in (queries, keys))
        scale = take(f"{name}.logit_scale")[head, 0, 0].clamp(max=math.log(100)).exp()
        scores = q @ k.T * scale + position[..., head]
        scores = scores - 100.0 * (zone_of[:, None] != zone_of[None])
        scores = scores.masked_fill(window_of[:, None] != window_of[None], -torch.inf)
        outputs.append(scores.softmax(dim=1) @ values[:, head])
    mixed = torch.cat(outputs, dim=1) @ take(f"{name}.proj.weight").T + take(f"{name}.proj.bias")
    return mixed.view_as(features)


def _bias_table(take: "_Taker", name: str, window: int, pretrained: int) -> Tensor:
    offsets = torch.arange(1 - window, window).to(take(f"{name}.q_bias"))
    scaled = 8 * offsets / ((pretrained or window) - 1)
    scaled = scaled.sign() * torch.log2(scaled.abs() + 1) / 3
    pairs = torch.stack(torch.meshgrid(scaled, scaled, indexing="ij"), dim=-1)
    hidden = (pairs @ take(f"{name}.cpb_mlp.0.weight").T + take(f"{name}.cpb_mlp.0.bias")).clamp(min=0)
    return 16 * torch.sigmoid(hidden @ take(f"{name}.cpb_mlp.2.weight").T)


def hiera(weights: Weights, pixels: Tensor, _: int) -> Tensor:
    """In plain spatial order: windows of 8, 4, 2 cells in the first two stages and the block after, then all."""
    take = _Taker(weights, "encoder.model.")
    kernel, bias = take("patch_embed.proj.weight"), take("patch_embed.proj.bias")
    features = F.conv2d(pixels[None], kernel, bias, stride=4, padding=3)[0].permute(1, 2, 0)
    features = features + take("pos_embed")[0].view_as(features)
    block, stage, window = 0, 0, 8
    width = features.shape[2]
    while f"encoder.model.blocks.{block}.norm1.weight" in weights:
        name = f"blocks.{block}"
        dim = take(f"{name}.mlp.fc2.weight").shape[0]
        heads = dim // width
        normed = _norm(features, take, f"{name}.norm1", 1e-6)
        grows = dim != features.shape[2]
        if grows:
            features = _pool(_linear(normed, take, f"{name}.proj"))
        queries, keys, values = _linear(normed, take, f"{name}.attn.qkv").split(dim, dim=-1)
        unit = window if stage < 2 else 10**6
        mixed = _unit_attention(
            _pool(queries) if grows else queries, keys, values, heads, unit, 2 if grows else 1
        )
        features = features + _linear(mixed, take, f"{name}.attn.proj")
        inner = _norm(features, take, f"{name}.norm2", 1e-6)
        features = features + _mlp(inner, take, f"{name}.mlp")
        if grows:
            stage, window = stage + 1, window // 2
        block += 1
    return features


def _unit_attention(
    queries: Tensor, keys: Tensor, values: Tensor, heads: int, unit: int, step: int
) -> Tensor:
    """Queries see the keys of their own unit; a query stands for step x step cells."""
    outputs = []
    key_unit = _unit_of(keys.shape[0], unit)
    query_unit = _unit_of(queries.shape[0], max(unit // step, 1))
    for q, k, v in zip(
        *(part.flatten(0, 1).chunk(heads, dim=1) for part in (queries, keys, values)), strict=True
    ):
        scores = (q @ k.T / math.sqrt(q.shape[1])).masked_fill(
            query_unit[:, None] != key_unit[None], -torch.inf
        )
        outputs.append(scores.softmax(dim=1) @ v)
    return torch.cat(outputs, dim=1).view(*queries.shape[:2], -1)


def _unit_of(side: int, unit: int) -> Tensor:
    cell = torch.arange(side) // unit
    return (1000 * cell[:, None] + cell[None]).flatten()


def _pool(features: Tensor) -> Tensor:
    return torch.stack([features[row::2, column::2] for row in (0, 1) for column in (0, 1)]).amax(dim=0)


# --- heads: (rows, columns, C) -> (K,) ---


def head(weights: Weights, features: Tensor, attention: str | None) -> Tensor:
    take = _Taker(weights, "decoder.")
    if attention is None:
        hidden = _gelu(_linear(features.mean(dim=(0, 1)), take, "layers.0"))
        return _linear(_norm(hidden, take, "layers.2"), take, "layers.3")
    rows, columns, _ = features.shape
    dim = take("cls_token").shape[2]
    tokens = []
    for y in range(rows):
        for x in range(columns):
            code = [
                wave(place * 10000 ** (-k / (dim // 4)))
                for place in (x, y)
                for wave in (math.sin, math.cos)
                for k in range(dim // 4)
            ]
            tokens.append(
                _linear(features[y, x], take, "input_proj")
                + torch.tensor(code, dtype=torch.float32).to(features)
            )
    stream = torch.stack([*tokens, take("cls_token")[0, 0]])
    layer = 0
    while any(name.startswith(f"decoder.layers.{layer}.") for name in weights):
        name = f"layers.{layer}"
        if attention == "mamba":
            ordered = stream.flip(0) if layer % 2 == 0 else stream
            normed = _norm(ordered, take, f"{name}.norm")
            ordered = normed + _mamba(normed, take, f"{name}.mixer")
            stream = ordered.flip(0) if layer % 2 == 0 else ordered
        else:
            mix = _causal_attention if attention == "hyper" else _channel_attention
            stream = stream + mix(_rms(stream, take(f"{name}.input_layernorm.weight")), take, f"{name}.attn")
            inner = _rms(stream, take(f"{name}.post_attention_layernorm.weight"))
            gate = _gelu(inner @ take(f"{name}.mlp.gate_proj.weight").T)
            up = inner @ take(f"{name}.mlp.up_proj.weight").T
            stream = stream + (gate * up) @ take(f"{name}.mlp.down_proj.weight").T
        layer += 1
    return _linear(_norm(stream[-1], take, "cls.0"), take, "cls.1")


def _causal_attention(stream: Tensor, take: "_Taker", name: str) -> Tensor:
    queries, keys, values = _linear(stream, take, f"{name}.qkv").chunk(3, dim=1)
    outputs = []
    for q, k, v in zip(queries.split(128, 1), keys.split(128, 1), values.split(128, 1), strict=True):
        rows = [torch.softmax(k[: t + 1] @ q[t] / math.sqrt(128), 0) @ v[: t + 1] for t in range(len(q))]
        outputs.append(torch.stack(rows))
    return _linear(torch.cat(outputs, dim=1), take, f"{name}.proj")


def _channel_attention(stream: Tensor, take: "_Taker", name: str) -> Tensor:
    queries, keys, values = _linear(stream, take, f"{name}.qkv").chunk(3, dim=1)
    outputs = [
        torch.outer(queries[:, c], keys[:, c]).softmax(dim=1) @ values[:, c] for c in range(queries.shape[1])
    ]
    return _linear(torch.stack(outputs, dim=1), take, f"{name}.proj")


def _mamba(stream: Tensor, take: "_Taker", name: str) -> Tensor:
    inputs, gate = (stream @ take(f"{name}.in_proj.weight").T).chunk(2, dim=1)
    kernel, bias = take(f"{name}.conv1d.weight")[:, 0], take(f"{name}.conv1d.bias")
    padded = torch.cat((torch.zeros(3, inputs.shape[1]).to(inputs), inputs))
    inputs = torch.stack([(padded[t : t + 4] * kernel.T).sum(0) + bias for t in range(len(stream))])
    inputs = inputs * torch.sigmoid(inputs)
    rank = take(f"{name}.dt_proj.weight").shape[1]
    step, write, read = (inputs @ take(f"{name}.x_proj.weight").T).split([rank, 16, 16], dim=1)
    step = F.softplus(_linear(step, take, f"{name}.dt_proj"))
    rate = -take(f"{name}.A_log").exp()
    state = torch.zeros_like(rate)
    outputs = []
    for t in range(len(stream)):
        state = torch.exp(step[t][:, None] * rate) * state + (step[t] * inputs[t])[:, None] * write[t]
        outputs.append(state @ read[t] + take(f"{name}.D") * inputs[t])
    return (torch.stack(outputs) * gate * torch.sigmoid(gate)) @ take(f"{name}.out_proj.weight").T


# --- small parts ---


class _Taker:
    """Weights by the end of their name; remembers which were used."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self.weights, self.prefix = weights, prefix

    def __call__(self, name: str) -> Tensor:
        return self.weights[self.prefix + name]


def _linear(values: Tensor, take: _Taker, name: str) -> Tensor:
    return values @ take(f"{name}.weight").T + take(f"{name}.bias")


def _mlp(values: Tensor, take: _Taker, name: str) -> Tensor:
    return _linear(_gelu(_linear(values, take, f"{name}.fc1")), take, f"{name}.fc2")


def _norm(values: Tensor, take: _Taker, name: str, epsilon: float = 1e-5) -> Tensor:
    centred = values - values.mean(dim=-1, keepdim=True)
    unit = centred / (centred.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()
    return unit * take(f"{name}.weight") + take(f"{name}.bias")


def _rms(values: Tensor, weight: Tensor) -> Tensor:
    return weight * values / (values.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def _gelu(values: Tensor) -> Tensor:
    return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))
