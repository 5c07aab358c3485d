"""When something happens: a risk of each image, by Cox's partial likelihood or by hazards of intervals of time."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.errors import ConfigError, MissingPackageError
from xt.heads.base import Head
from xt.heads.pooling import AttentionPooling
from xt.option_types import Measures


class CoxHead(Head):
    """The logarithm of an image's hazard beside that of the others (Cox 1972), by the partial likelihood.

    It compares the images of a step with those that were still under observation, of all processes: the more there are
    in a step, the better. Ties of times are treated as Efron (1977) does.

    Args:
        dim: width of the tokens, D.
        num_classes: 1.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
    """

    task = "survival"
    target_columns = 2
    ties_images = True

    def __init__(self, dim: int, num_classes: int = 1, num_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if num_classes != 1:
            raise ConfigError(f"the head 'survival' has one output, the risk, got num_classes {num_classes}")
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        # No bias: the partial likelihood does not see it.
        self.risk = nn.Linear(dim, 1, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled, weights = self.pooling(tokens, mask)
        return self.risk(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B, 2), the time and whether it happened then (1) or was not seen until then (0)."""
        return cox_loss(logits[:, 0], *targets.unbind(dim=1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, 1), the logarithm of the hazard, up to a number that is the same for all images."""
        return logits


class HazardHead(Head):
    """The chance that it happens in each of some intervals of time, if it has not before (Gensheimer, Narasimhan 2019).

    Each image has a loss of its own, so that steps may be as small as one image. An image counts for the intervals that
    it has seen the end of, and for the one in which it happened. Within an interval the survival falls evenly.

    Args:
        dim: width of the tokens, D.
        num_classes: 1 for the risk and one for each of `times`.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
        intervals: how many, >= 1, with equally many events in training; fewer where many happen at the same time.
        cuts: where they end, rising, in the unit of the labels; None for not yet known.
        times: at which the probability that it has not happened is told, rising, in the unit of the labels.
    """

    task = "survival"
    target_columns = 2
    cuts: Tensor
    times: Tensor

    def __init__(
        self,
        dim: int,
        num_classes: int = 1,
        num_heads: int = 4,
        dropout: float = 0.0,
        intervals: int = 8,
        cuts: Measures = None,
        times: Measures = None,
    ) -> None:
        super().__init__()
        ends, asked = _rising("cuts", cuts or range(1, intervals + 1)), _rising("times", times or ())
        if num_classes != 1 + len(asked):
            raise ConfigError(
                f"the head 'survival_intervals' tells the risk and the survival at {len(asked)} times, got num_classes "
                f"{num_classes}"
            )
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.num_logits = len(ends)
        self.hazards = nn.Linear(dim, len(ends))
        # Options have them already.
        self.register_buffer("cuts", torch.tensor(ends, dtype=torch.float64).float(), persistent=False)
        self.register_buffer("times", torch.tensor(asked, dtype=torch.float64).float(), persistent=False)

    @classmethod
    def measured(cls, targets: NDArray[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The ends of the intervals: quantiles of the times at which it happened, and the end of observation."""
        if given.get("cuts") is not None:
            return {}
        times, events = np.asarray(targets, np.float64).T
        last = float(times[~np.isnan(times)].max())
        happened = times[(events == 1) & (times > 0)]
        intervals = int(given.get("intervals", 8))
        inner = np.quantile(happened, np.arange(1, intervals) / intervals) if len(happened) else []
        beyond = [time for time in given.get("times") or () if time > last]
        if beyond:
            raise ConfigError(
                f"model.head_options.times has {beyond[0]:g}, but no training image was observed beyond {last:g}: "
                "leave it out"
            )
        return {"cuts": [*np.unique([cut for cut in inner if cut < last]).tolist(), last]}

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled, weights = self.pooling(tokens, mask)
        return self.hazards(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: as of `CoxHead`."""
        times, events = targets.unbind(dim=1)
        cuts = self.cuts.to(times.dtype)
        last = len(cuts) - 1
        happened_in = torch.searchsorted(cuts, times.contiguous()).clamp(max=last)
        ends_seen = torch.searchsorted(cuts, times.contiguous(), right=True)
        number = torch.arange(last + 1, device=logits.device)
        hit = (number == happened_in[:, None]) & (events[:, None] == 1)
        survived = number < torch.where(events == 1, happened_in, ends_seen)[:, None]
        log_likelihood = torch.where(
            hit,
            nn.functional.logsigmoid(logits),
            torch.where(survived, nn.functional.logsigmoid(-logits), 0.0),
        )
        return -log_likelihood.sum() / max(len(logits), 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, 1 + T): the share of the time of observation that is likely lost, and the survival at each time."""
        survival = torch.cat([torch.ones_like(logits[:, :1]), (1 - logits.sigmoid()).cumprod(dim=1)], dim=1)
        cuts = self.cuts.to(logits.dtype)
        ends = torch.cat([cuts.new_zeros(1), cuts])
        risk = 1 - torch.trapezoid(survival, ends, dim=1) / ends[-1]
        times = self.times.to(logits.dtype)
        place = torch.searchsorted(cuts, times).clamp(max=len(cuts) - 1)
        share = (times - ends[place]) / (ends[place + 1] - ends[place])
        at_times = survival[:, place] + share * (survival[:, place + 1] - survival[:, place])
        return torch.cat([risk[:, None], at_times], dim=1)


def cox_loss(risks: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """The mean over events of the negative log partial likelihood, by torchsurv; 0 where nothing is to be compared.

    Args:
        risks: (B,) logarithms of hazards.
        times: (B,) at least 0.
        events: (B,) 1 where it happened then, 0 where observation ended.
    Raises:
        MissingPackageError: torchsurv is not installed.
    """
    happened, risks = events == 1, risks.to(torch.promote_types(risks.dtype, torch.float32))
    if len(risks) < 2 or not bool(happened.any()):
        return risks.sum() * 0.0
    try:
        from torchsurv.loss.cox import neg_partial_log_likelihood
    except ImportError:
        raise MissingPackageError(
            "the loss of the head 'survival' comes from the package torchsurv, which is not installed: pip "
            "install 'xt-vision[cohort]'"
        ) from None
    # It computes in float32: times are told by their order, which is all that counts, and risks beside the highest.
    order = torch.unique(times, return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Ties in `time` detected")
        loss: Tensor = neg_partial_log_likelihood(
            risks - risks.max().detach(), happened, order, reduction="sum"
        )
    return loss.to(risks.dtype) / happened.sum()


def _rising(name: str, values: Any) -> list[float]:
    numbers = [float(value) for value in values]
    if any(number <= 0 for number in numbers) or sorted(set(numbers)) != numbers:
        raise ConfigError(f"{name} of the head 'survival_intervals' must be positive and rise, got {numbers}")
    return numbers
