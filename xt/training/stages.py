"""The stages of a run as people see them: a bar each, with the newest numbers, and a line for each epoch."""

import math

from xt.progress import Bar, Progress

_VALIDATED_SHOWN = 3


class StageBars:
    """What is told to a `Report`, shown as a bar for each stage of a run and a line of numbers for each epoch.

    Args:
        prefix: of each bar and line.
        steps: what training is counted in; "s" where the clock ends it.
    """

    def __init__(self, progress: Progress, prefix: str = "", steps: str = "steps") -> None:
        self.progress = progress
        self.prefix = prefix
        self.steps = steps
        self.stages: dict[str, Bar] = {}

    def __call__(self, what: str, done: int, total: int, values: dict[str, float]) -> None:
        if what not in self.stages:
            unit = self.steps if what.endswith("train") else "images"
            self.stages[what] = self.progress.add(f"{self.prefix}{what}", total=total, unit=unit)
        if "epoch" in values:
            self._print_epoch(values)
        self.stages[what].update(done, total, note=newest_in_words(values))

    def _print_epoch(self, values: dict[str, float]) -> None:
        numbers = [
            f"{name} {value:.4g}"
            for name, value in values.items()
            # Neither the number of one of the classes nor what could not be measured.
            if name not in ("epoch", "seconds") and "(" not in name and not math.isnan(value)
        ]
        self.progress.print(f"{self.prefix}epoch {values['epoch']:.0f}: {', '.join(numbers)}")


def newest_in_words(values: dict[str, float]) -> str:
    """The newest numbers of a run that goes on, briefly: `loss 0.53, val/top1 0.91, 12.4 regions/s, 1.2 GB`."""
    if "epoch" in values:
        return ""  # a line of its own
    parts = []
    if "train/loss" in values:
        parts.append(f"loss {values['train/loss']:.4g}")
    # Neither the number of one of the classes nor what could not be measured; of many metrics the first ones.
    validated = [
        f"{name} {value:.3g}"
        for name, value in values.items()
        if name.startswith("val/") and "(" not in name and not math.isnan(value)
    ]
    parts += validated[:_VALIDATED_SHOWN]
    if "regions/s" in values:
        parts.append(f"{values['regions/s']:.3g} regions/s")
    if "memory" in values:
        parts.append(f"{values['memory'] / 1e9:.1f} GB")
    return ", ".join(parts)
