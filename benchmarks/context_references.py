"""What the context encoders are measured against: plain recurrences, and the `transformers` package."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders import create_context_encoder, mamba, mamba2


def mamba_step(dim: int, depth: int) -> nn.Module:
    """Our Mamba with its scan replaced by the paper's recurrence, a token at a time."""

    def scan(
        inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs = []
        parts = (values.unbind(1) for values in (inputs, steps, write, read))
        for now, step, into, out in zip(*parts, strict=True):
            state = torch.exp(step[:, None] * decay) * state + (step * now)[:, None] * into[:, :, None]
            outputs.append((out[:, None] @ state)[:, 0])
        return torch.stack(outputs, dim=1), state

    mamba.selective_scan = scan  # type: ignore[assignment]
    return create_context_encoder("mamba", dim=dim, depth=depth)


def step_by_step(
    inputs: Tensor, decays: Tensor, write: Tensor, read: Tensor, state: Tensor, chunk_length: int
) -> tuple[Tensor, Tensor]:
    """Mamba-2's recurrence, a token at a time, in the place of `mamba2.chunked_scan`."""
    outputs = []
    parts = (values.unbind(1) for values in (inputs, decays.exp(), write, read))
    for now, decay, into, out in zip(*parts, strict=True):
        state = decay[..., None, None] * state + now[..., None] * into[:, None, None]
        outputs.append((state @ out[:, None, :, None])[..., 0])
    return torch.stack(outputs, dim=1), state


def mamba2_step(dim: int, depth: int) -> nn.Module:
    """Our Mamba-2 with its scan replaced by its recurrence, a token at a time."""
    mamba2.chunked_scan = step_by_step  # type: ignore[assignment]
    return create_context_encoder("mamba2", dim=dim, depth=depth)


class Mamba2Scan(nn.Module):
    """The scan of one of Mamba-2's mixers and nothing else, 1024 tokens at a time, as the encoder runs it."""

    def __init__(self, dim: int, scan: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.heads, self.states, self.scan = 2 * dim // 64, 64, scan

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        state = tokens.new_zeros(len(tokens), self.heads, 64, self.states)
        outputs = []
        for segment in tokens.split(1024, dim=1):
            output, state = checkpoint(self._segment, segment, state, use_reentrant=False)
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    def _segment(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([tokens, tokens], dim=2).unflatten(2, (self.heads, 64))
        decays = -F.softplus(tokens[..., : self.heads] - 4)
        write, read = tokens[..., : self.states], tokens[..., -self.states :]
        return self.scan(inputs, decays, write, read, state, 64)


def mamba2_scan(dim: int, depth: int) -> nn.Module:
    return Mamba2Scan(dim, mamba2.chunked_scan)


def mamba2_scan_step(dim: int, depth: int) -> nn.Module:
    return Mamba2Scan(dim, step_by_step)


class TransformersMamba(nn.Module):
    """`transformers.MambaModel` over embeddings: one direction, so half of our work."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        from transformers import MambaConfig, MambaModel  # type: ignore[import-not-found,unused-ignore]

        self.model: Any = MambaModel(
            MambaConfig(hidden_size=dim, num_hidden_layers=depth, state_size=16, vocab_size=8)
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
        attended = torch.ones(tokens.shape[:2], dtype=torch.long)
        everywhere = F.pad(torch.ones_like(attended[:, :16]), (0, tokens.shape[1] - 16))
        return self.model(
            inputs_embeds=tokens, attention_mask=attended, global_attention_mask=everywhere
        ).last_hidden_state


transformers_mamba = TransformersMamba
transformers_longformer = TransformersLongformer
