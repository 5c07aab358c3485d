"""How well risks tell who has it happen sooner, and how true the probabilities are; by torchsurv."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xt.errors import MissingPackageError


class SurvivalMetric(Metric):
    """Keeps all that was predicted, with times and events."""

    full_state_update = False
    predictions: list[Tensor]
    targets: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("predictions", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Keep (B, K) predictions, the risk first, with (B, 2) times and events."""
        self.predictions.append(probabilities)
        self.targets.append(targets)

    def _all(self) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K) predictions, (N,) events, (N,) times; on the CPU, where small steps take least."""
        targets = dim_zero_cat(self.targets).cpu().double()
        return dim_zero_cat(self.predictions).cpu().double(), targets[:, 1] == 1, targets[:, 0]


class ConcordanceIndex(SurvivalMetric):
    """Of all pairs of which it is known in which it happened first, the share in which that one had the higher risk;
    NaN without such a pair.

    Args:
        weighted: by the inverse of the chance to be still observed (IPCW, Uno et al. 2011), estimated on these very
            images, so that early ends of observation do not count for more; else as Harrell (1982).
    """

    higher_is_better = True

    def __init__(self, weighted: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.weighted = weighted

    def compute(self) -> Tensor:
        predictions, events, times = self._all()
        if not has_pairs(times, events):
            return torch.tensor(math.nan)
        try:
            from torchsurv.metrics.cindex import ConcordanceIndex as Concordance
        except ImportError:
            raise MissingPackageError(
                "the C-index comes from the package torchsurv, which is not installed: pip "
                "install 'xt-vision[cohort]'"
            ) from None
        # By their order, which is all that counts, as torchsurv computes in float32.
        risks = torch.unique(predictions[:, 0], return_inverse=True)[1].float()
        order = torch.unique(times, return_inverse=True)[1].float()
        weight = _weights(events, order) if self.weighted else None
        found: Tensor = Concordance()(risks, events, order, weight=weight, instate=False)
        return found


class IntegratedBrier(SurvivalMetric):
    """The mean over time of the squared difference between survival and its probability (Graf et al. 1999), weighted as
    of `ConcordanceIndex`, from the first to the last of some times; lower is better.

    Args:
        times: at which the columns behind the first tell the probability; those outside of what was observed are left
            out.
    """

    higher_is_better = False

    def __init__(self, times: Sequence[float], **settings: Any) -> None:
        super().__init__(**settings)
        self.times = tuple(times)

    def compute(self) -> Tensor:
        predictions, events, times = self._all()
        asked = torch.tensor(self.times, dtype=torch.float64)
        inside = (asked >= times.min()) & (asked < times.max())
        if not bool(events.any()) or not bool(inside.any()):
            return torch.tensor(math.nan)
        try:
            from torchsurv.metrics.brier_score import BrierScore
        except ImportError:
            raise MissingPackageError(
                "the integrated Brier score comes from the package torchsurv, which is not installed: pip "
                "install 'xt-vision[cohort]'"
            ) from None
        asked, survival = asked[inside].float(), predictions[:, 1:][:, inside].float()
        observed = times.float()
        score = BrierScore()
        weights = _weights(events, observed), _weights(events, observed, asked)
        score(survival, events, observed, asked, weight=weights[0], weight_new_time=weights[1])
        found: Tensor = score.integral()
        return found


def has_pairs(times: Tensor, events: Tensor) -> bool:
    """Whether there is a pair of which it is known in which it happened first."""
    if not bool(events.any()):
        return False
    first = times[events].min()
    return bool((times > first).any() or ((times == first) & ~events).any())


def _weights(events: Tensor, times: Tensor, at: Tensor | None = None) -> Tensor:
    from torchsurv.stats.ipcw import get_ipcw

    found: Tensor = get_ipcw(events, times, at)
    return found
