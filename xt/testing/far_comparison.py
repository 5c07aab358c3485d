"""A task that no token can solve alone: compare two far-apart regions of a sequence, place by place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.context_encoders import ContextEncoder, create_context_encoder

STRENGTH = 3.0
WARMUP = 50
# A mean loss at which hardly an answer is wrong.
ENOUGH = 0.05


class Learned(NamedTuple):
    """What an encoder made of the task: the share of right answers to new first questions, after so many steps."""

    accuracy: float
    steps: int


class FarComparison(NamedTuple):
    """Two regions of `places` tokens, one at the start of the sequence and one in its middle, noise elsewhere.

    The token at place i of a region is +3 or -3 in channel i, at random (three times the position embedding's channels,
    or its constant part hides the signs from a state space for hundreds of steps); a further channel tells the regions'
    tokens from noise. For each place of the first region there are two questions: whether the second has the same sign
    there, and, which is learned sooner, what sign it has. A token's own sign says nothing about either, so without
    context answers are right half of the time.

    Attributes:
        dim: channels, at least places + 1.
        length: tokens, at least 4 * places.
        places: tokens of a region.
        pitch: distance of neighbouring tokens in pixels; they lie in rows of 4.
    """

    dim: int = 16
    length: int = 24
    places: int = 2
    pitch: float = 64.0

    def batch(self, images: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L, D), positions (B, L, 2) and answers (B, places, 2) of 0 and 1: the same, and positive."""
        tokens = torch.zeros(images, self.length, self.dim)
        tokens[..., self.places + 1 :].normal_(std=0.3)
        signs = torch.randint(2, (2, images, self.places)) * 2.0 - 1.0
        for region, begin in zip(signs, (0, self.length // 2), strict=True):
            part = tokens[:, begin : begin + self.places]
            part[..., : self.places] = STRENGTH * torch.diag_embed(region)
            part[..., self.places] = STRENGTH
        index = torch.arange(self.length)
        positions = torch.stack([index // 4, index % 4], dim=1) * self.pitch
        answers = torch.stack([signs[0] == signs[1], signs[1] > 0], dim=-1)
        return tokens, positions.expand(images, -1, -1), answers.float()

    def learn(
        self,
        encoder: ContextEncoder,
        steps: int,
        images: int = 64,
        seed: int = 0,
        report: Callable[[int, float], None] = lambda step, loss: None,
    ) -> Learned:
        """Train the encoder and a linear read-out until the answers are right, for `steps` steps at most.

        Args:
            report: called as (steps done, mean of the last losses).
        """
        torch.manual_seed(seed)
        readout = nn.Linear(self.dim, 2)
        parameters = [*encoder.parameters(), *readout.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / WARMUP, 1 - step / steps)
        )

        def logits(tokens: Tensor, positions: Tensor) -> Tensor:
            return readout(encoder(tokens, positions)[:, : self.places])

        encoder.train()
        recent_loss, step = 1.0, 0
        while step < steps and recent_loss > ENOUGH:
            tokens, positions, answers = self.batch(images)
            loss = F.binary_cross_entropy_with_logits(logits(tokens, positions), answers)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            recent_loss = 0.9 * recent_loss + 0.1 * loss.item()
            step += 1
            report(step, recent_loss)
        encoder.eval()
        with torch.no_grad():
            tokens, positions, answers = self.batch(512)
            right = (logits(tokens, positions) > 0) == answers.bool()
        return Learned(float(right[..., 0].float().mean()), step)


ENCODERS = (
    "none",
    "full",
    "transformer_xl",
    "transformer_xl without summary",
    "hyper",
    "mamba",
    "mamba2",
    "gated_delta",
    "longformer",
    "longformer 2d",
    "multiscale",
)


def small_encoder(name: str, dim: int = 16, seed: int = 0) -> ContextEncoder:
    """A context encoder whose segments, windows and blocks are much shorter than the distance of the two regions."""
    options: dict[str, dict[str, Any]] = {
        "transformer_xl": {"segment_length": 4, "memory_length": 4, "summary_length": 8},
        "transformer_xl without summary": {"segment_length": 4, "memory_length": 4, "summary_length": 0},
        "hyper": {"min_length": 0, "block_length": 6, "num_samples": 6},
        # One layer: the gate multiplies what the scan recalls by a token's own sign, which is the comparison.
        "mamba": {"depth": 1, "state_dim": 4},
        "mamba2": {"depth": 1, "state_dim": 16, "head_dim": 8},
        "gated_delta": {"depth": 1, "head_dim": 8},
        "longformer": {"window_size": 3, "num_global": 4},
        "longformer 2d": {"window": "2d", "window_size": 1, "num_global": 4},
        "multiscale": {"window_length": 4},
    }
    torch.manual_seed(seed)
    return create_context_encoder(name.split()[0], dim=dim, **options.get(name, {}))
