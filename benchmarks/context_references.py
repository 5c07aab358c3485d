"""What the context encoders are measured against: plain recurrences, and what other packages have."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders import create_context_encoder, gated_delta, mamba, mamba2
from xt.context_encoders.recurrent import Mixer, RecurrentEncoder, State, TwoWayLayer


class Unsegmented(nn.Module):
    """A recurrent encoder of ours as it would be without segments: one graph over the whole sequence, both ways."""

    def __init__(self, encoder: RecurrentEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        tokens = self.encoder.embedding(tokens, positions)
        for layer in self.encoder.layers:
            assert isinstance(layer, TwoWayLayer)
            normed = layer.norm(tokens)
            tokens = tokens + self.mix(layer.ahead, normed) + self.mix(layer.back, normed.flip(1)).flip(1)
        return tokens

    def mix(self, mixer: Mixer, tokens: Tensor) -> Tensor:
        return mixer(tokens, *mixer.initial_state(tokens))[0]


class TokenByToken(Mixer):
    """All of a mixer, projections included, for one token after the other: `step` of the `mamba_ssm` package."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def initial_state(self, tokens: Tensor) -> State:
        return self.mixer.initial_state(tokens)

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for token in tokens.split(1, dim=1):
            output, *after = self.mixer(token, *state)
            state = tuple(after)
            outputs.append(output)
        return (torch.cat(outputs, dim=1), *state)


def _recurrent(name: str, dim: int, depth: int) -> RecurrentEncoder:
    encoder = create_context_encoder(name, dim=dim, depth=depth)
    assert isinstance(encoder, RecurrentEncoder)
    return encoder


def longformer_flex(dim: int, depth: int) -> nn.Module:
    """Our Longformer with its windows through PyTorch's FlexAttention."""
    return create_context_encoder("longformer", dim=dim, depth=depth, kernel="flex")


def mamba_plain(dim: int, depth: int) -> nn.Module:
    """Our Mamba with its scan in plain PyTorch, also where the kernel of `mamba_ssm` is installed."""
    mamba.fused_kernel = lambda tokens: None
    return _recurrent("mamba", dim, depth)


def mamba_step(dim: int, depth: int) -> nn.Module:
    """Our Mamba without segments, its scan replaced by the paper's recurrence, a token at a time."""

    def scan(
        inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs = []
        parts = (values.unbind(1) for values in (inputs, steps, write, read))
        for now, step, into, out in zip(*parts, strict=True):
            state = torch.exp(step[:, None] * decay) * state + (step * now)[:, None] * into[:, :, None]
            outputs.append((out[:, None] @ state)[:, 0])
        return torch.stack(outputs, dim=1), state

    mamba.selective_scan = scan
    return Unsegmented(_recurrent("mamba", dim, depth))


def step_by_step(
    inputs: Tensor,
    steps: Tensor,
    decays: Tensor,
    write: Tensor,
    read: Tensor,
    skip: Tensor,
    state: Tensor,
    chunk_length: int,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's recurrence, a token at a time, in the place of `mamba2.chunked_scan`."""
    outputs = []
    parts = (values.unbind(1) for values in (inputs * steps[..., None], decays.exp(), write, read))
    for now, decay, into, out in zip(*parts, strict=True):
        state = decay[..., None, None] * state + now[..., None] * into[:, None, None]
        outputs.append((state @ out[:, None, :, None])[..., 0])
    return torch.stack(outputs, dim=1) + inputs * skip[:, None], state


def mamba2_step(dim: int, depth: int) -> nn.Module:
    """Our Mamba-2 without segments, its scan replaced by its recurrence, a token at a time."""
    mamba2.chunked_scan = step_by_step
    return Unsegmented(_recurrent("mamba2", dim, depth))


def mamba2_token(dim: int, depth: int) -> nn.Module:
    """Our Mamba-2 with everything but the norms a token at a time.

    In our segments, computed again in the backward pass as ours are: in one graph 16,384 tokens would take 50 GB.
    """
    mamba2.chunked_scan = step_by_step
    encoder = _recurrent("mamba2", dim, depth)
    for layer in encoder.layers:
        assert isinstance(layer, TwoWayLayer)
        layer.ahead, layer.back = TokenByToken(layer.ahead), TokenByToken(layer.back)
    return encoder


class Mamba2Scan(nn.Module):
    """The scan of one of Mamba-2's mixers and nothing else.

    Args:
        segment_length: tokens whose activations exist at one time; None for all.
    """

    def __init__(
        self, dim: int, scan: Callable[..., tuple[Tensor, Tensor]], segment_length: int | None
    ) -> None:
        super().__init__()
        self.heads, self.states, self.scan = 2 * dim // 64, 64, scan
        self.segment_length = segment_length

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        state = tokens.new_zeros(len(tokens), self.heads, 64, self.states)
        if self.segment_length is None:
            return self._segment(tokens, state)[0]
        outputs = []
        for segment in tokens.split(self.segment_length, dim=1):
            output, state = checkpoint(self._segment, segment, state, use_reentrant=False)
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    def _segment(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([tokens, tokens], dim=2).unflatten(2, (self.heads, 64))
        steps = F.softplus(tokens[..., : self.heads] - 4)
        write, read = tokens[..., : self.states], tokens[..., -self.states :]
        skip = tokens.new_ones(self.heads)
        return self.scan(inputs, steps, -steps, write, read, skip, state, 32)


def mamba2_scan(dim: int, depth: int) -> nn.Module:
    return Mamba2Scan(dim, mamba2.chunked_scan, 512)


def mamba2_scan_step(dim: int, depth: int) -> nn.Module:
    return Mamba2Scan(dim, step_by_step, None)


def gated_delta_step(dim: int, depth: int) -> nn.Module:
    """Our gated delta rule with the paper's recurrence in place of its chunks, in our segments."""

    def rule(
        read: Tensor,
        keys: Tensor,
        values: Tensor,
        fading: Tensor,
        writing: Tensor,
        state: Tensor,
        chunk_length: int,
    ) -> tuple[Tensor, Tensor]:
        outputs = []
        parts = (part.unbind(1) for part in (read, keys[..., None], values, fading.exp(), writing[..., None]))
        for out, key, now, left, share in zip(*parts, strict=True):
            state = left[..., None, None] * state
            state = state + key * (share * (now - (key * state).sum(-2)))[..., None, :]
            outputs.append((out[..., None] * state).sum(-2))
        return torch.stack(outputs, dim=1), state

    gated_delta.chunked_delta_rule = rule
    return _recurrent("gated_delta", dim, depth)


def fla_gated_delta(dim: int, depth: int) -> nn.Module:
    """The rule in chunks as `flash-linear-attention` has it in plain PyTorch, in the place of ours.

    Its kernels want a GPU; this is the package's own reference for them (`pip install fla-core`).
    """
    from fla.ops.gated_delta_rule.naive import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        naive_chunk_gated_delta_rule,
    )

    def rule(
        read: Tensor,
        keys: Tensor,
        values: Tensor,
        fading: Tensor,
        writing: Tensor,
        state: Tensor,
        chunk_length: int,
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = naive_chunk_gated_delta_rule(
            read, keys, values, fading, writing, chunk_length, 1.0, state, output_final_state=True
        )
        return found

    gated_delta.chunked_delta_rule = rule
    return _recurrent("gated_delta", dim, depth)


class TransformersGatedDelta(nn.Module):
    """The Gated DeltaNet layers of `transformers`' Qwen3-Next: one direction, so half of our work.

    In plain PyTorch: where `fla` is installed they would take its kernels, which want a GPU.
    """

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        sys.modules["fla"] = None  # type: ignore[assignment]
        from transformers import Qwen3NextConfig  # type: ignore[import-not-found,unused-ignore]
        from transformers.models.qwen3_next.modeling_qwen3_next import (  # type: ignore[import-not-found,unused-ignore]
            Qwen3NextGatedDeltaNet,
        )

        config = Qwen3NextConfig(
            hidden_size=dim,
            num_hidden_layers=depth,
            layer_types=["linear_attention"] * depth,
            linear_key_head_dim=64,
            linear_value_head_dim=64,
            linear_num_key_heads=dim // 64,
            linear_num_value_heads=dim // 64,
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.layers = nn.ModuleList(Qwen3NextGatedDeltaNet(config, number) for number in range(depth))

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            tokens = tokens + layer(norm(tokens))
        return tokens


class Atlas(nn.Module):
    """Blocks of the authors' own Atlas, from a clone of github.com/YalaLab/atlas on the path.

    Windows of 16 x 16 tokens, scales of a quarter of each side, each with weights of its own: theirs. They are made for
    one size, here 128 x 128 tokens; of fewer, as warm up, one window.
    """

    WINDOW, RATE = 16, 4

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.stacks = nn.ModuleDict({str(side): self._blocks(dim, depth, side) for side in (16, 128)})

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        side = 128 if tokens.shape[1] >= 128**2 else 16
        picture = tokens[:, : side**2].mT.unflatten(2, (side, side))
        grids = self._grids(side)
        scales = [
            self._windows(F.max_pool2d(picture, self.RATE**number), grid) for number, grid in enumerate(grids)
        ]
        blocks = self.stacks[str(side)]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            scales = block(scales, [(grid, grid) for grid in grids])
        return scales[0]

    def _grids(self, side: int) -> list[int]:
        """Windows along a side, of each scale; the coarsest is one window."""
        grids = [side // self.WINDOW]
        while grids[-1] > 1:
            grids.append(max(1, grids[-1] // self.RATE))
        return grids

    def _windows(self, picture: Tensor, grid: int) -> Tensor:
        """(1, D, side, side) as windows, (grid * grid, tokens, D)."""
        parts = picture[0].unflatten(2, (grid, -1)).unflatten(1, (grid, -1))
        return parts.permute(1, 3, 2, 4, 0).flatten(2, 3).flatten(0, 1)

    def _blocks(self, dim: int, depth: int, side: int) -> nn.ModuleList:
        # Its training code wants versions of other packages that its blocks do not.
        package = sys.modules.setdefault("sandstone", ModuleType("sandstone"))
        package.__path__ = [f"{folder}/sandstone" for folder in sys.path]
        from sandstone.models.msa import (  # type: ignore[import-not-found,unused-ignore]
            MultiScaleAttentionBlock,
        )

        layout = [
            {"grid_size": [grid, grid], "window_size": (side // self.RATE**number // grid) ** 2}
            for number, grid in enumerate(self._grids(side))
        ]
        settings = {"weight_share": False, "merge_ratio": self.WINDOW, "local2global": self.RATE}
        return nn.ModuleList(
            MultiScaleAttentionBlock(dim, dim // 32, multiscale_layout=layout, **settings)
            for _ in range(depth)
        )


class TransformersMamba(nn.Module):
    """`transformers.MambaModel` over embeddings: one direction, so half of our work.

    Its loop over tokens takes each out of a tensor of the whole sequence, and the backward pass through that fills a
    gradient as large for every token: the time of a training step grows with the square of the length.

    Args:
        mambapy: scan by the `mambapy` package's parallel scan instead.
    """

    def __init__(self, dim: int, depth: int, mambapy: bool = False) -> None:
        super().__init__()
        from transformers import MambaConfig, MambaModel  # type: ignore[import-not-found,unused-ignore]

        self.model: Any = MambaModel(
            MambaConfig(
                hidden_size=dim, num_hidden_layers=depth, state_size=16, vocab_size=8, use_mambapy=mambapy
            )
        )

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.model(inputs_embeds=tokens, use_cache=False).last_hidden_state


class TransformersLongformer(nn.Module):
    """`transformers.LongformerModel` over embeddings, a window of 256 to each side, its first 16 tokens global."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        from transformers import LongformerConfig, LongformerModel

        config = LongformerConfig(
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=8,
            intermediate_size=4 * dim,
            attention_window=512,
            max_position_embeddings=70000,
            vocab_size=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model: Any = LongformerModel(config, add_pooling_layer=False)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        attended = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        everywhere = F.pad(torch.ones_like(attended[:, :16]), (0, tokens.shape[1] - 16))
        return self.model(
            inputs_embeds=tokens, attention_mask=attended, global_attention_mask=everywhere
        ).last_hidden_state


def transformers_mambapy(dim: int, depth: int) -> nn.Module:
    import mambapy.pscan  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401 - else it would quietly loop

    return TransformersMamba(dim, depth, mambapy=True)


transformers_gated_delta = TransformersGatedDelta
atlas = Atlas
transformers_mamba = TransformersMamba
transformers_longformer = TransformersLongformer
