"""Several answers about a whole image, each by a head of its own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.option_types import Descriptions

WEIGHTINGS = ("given", "uncertainty")


class MultiTaskHead(Head):
    """The heads of several tasks on the same tokens; a label that is missing has no part in the loss.

    Args:
        dim: width of the tokens, D.
        num_classes: outputs of all answers together.
        answers: of each answer, by name: its `head`, the `class_names` of its outputs, and where there are any the
            `options` of its head and its `weight` in the loss; None for not yet known.
        weighting: "given" adds up the losses by their weights; "uncertainty" learns how sure each can be, and counts it
            for less the less that is (Kendall et al. 2018, arXiv:1705.07115, equation 10).
    """

    task = "multitask"
    # Of each answer it is the mean over those images of a step that have its label.
    ties_images = True
    create: ClassVar[Callable[..., Any]]
    """Makes a head by its name; `xt.heads`, which knows them all, says how."""

    def __init__(
        self, dim: int, num_classes: int, answers: Descriptions = None, weighting: str = "given"
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ConfigError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
        # Before the labels are read, as for a plan: as many numbers.
        unknown = {"answer": {"head": "regression", "class_names": [str(n) for n in range(num_classes)]}}
        given: Mapping[str, Any] = answers or unknown
        outputs = [len(answer["class_names"]) for answer in given.values()]
        if sum(outputs) != num_classes:
            raise ConfigError(
                f"num_classes is {num_classes}, but the answers {', '.join(given)} have {sum(outputs)} outputs together"
            )
        heads = [
            type(self).create(answer["head"], dim=dim, num_classes=count, **answer.get("options", {}))
            for answer, count in zip(given.values(), outputs, strict=True)
        ]
        if not all(isinstance(head, Head) for head in heads):
            raise ConfigError("the answers of a multitask head must be about whole images")
        self.heads = nn.ModuleList(heads)
        self.outputs = outputs
        self.target_widths = [
            (count if head.target_columns is None else max(head.target_columns, 1))
            for head, count in zip(self._heads, outputs, strict=True)
        ]
        self.weights = [float(answer.get("weight", 1.0)) for answer in given.values()]
        self.log_variances = nn.Parameter(torch.zeros(len(heads))) if weighting == "uncertainty" else None
        self.widths = [
            count if head.num_logits is None else head.num_logits
            for head, count in zip(self._heads, outputs, strict=True)
        ]

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The predictions of all answers beside each other, and the mean of each token's weights in them."""
        logits, weights = zip(*(head(tokens, mask) for head in self._heads), strict=True)
        return torch.cat(logits, dim=1), torch.stack(weights).mean(dim=0)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B, C), of all answers beside each other, NaN where a label is missing."""
        total = logits.sum() * 0.0
        parts = zip(
            self._heads,
            logits.split(self.widths, dim=1),
            targets.split(self.target_widths, dim=1),
            self.weights,
            strict=True,
        )
        for number, (head, said, wanted, weight) in enumerate(parts):
            there = ~wanted.isnan().any(dim=1)
            # Also where none is: then all its parameters have a gradient, of 0.
            scale = said.new_ones(()) if self.log_variances is None else (-self.log_variances[number]).exp()
            if bool(there.any()):
                loss = head.loss(said[there], as_targets(head, wanted[there]))
                total = total + weight * scale * loss
                total = total - 0.5 * weight * scale.log()
            else:
                total = total + 0.0 * scale
        return total

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), those of all answers beside each other."""
        parts = zip(self._heads, logits.split(self.widths, dim=1), strict=True)
        return torch.cat([head.probabilities(part) for head, part in parts], dim=1)

    def decisive(self, probabilities: Tensor) -> Tensor:
        """Likewise."""
        parts = zip(self._heads, probabilities.split(self.outputs, dim=1), strict=True)
        return torch.cat([head.decisive(part) for head, part in parts], dim=1)

    @property
    def _heads(self) -> Iterator[Head]:
        return (cast(Head, head) for head in self.heads)


def as_targets(head: Head | type[Head], columns: Tensor) -> Tensor:
    """Columns of numbers as the targets of one answer's head, which may be class numbers."""
    return columns[:, 0].long() if head.target_columns == 0 else columns
