"""How far the workers are, as the driver shows it."""

from xt.cluster.units import Plan
from xt.cluster.worker import HowFar
from xt.cluster.workers import Workers
from xt.progress import Bar, Progress

_WORKERS_SHOWN = 16


class Shown:
    """All units, the bands of large ones, and what the first workers do.

    Args:
        total: how many units there are, and `unit` what they are called.
    """

    def __init__(self, progress: Progress, workers: Workers, total: int, unit: str) -> None:
        self._progress = progress
        self._all = progress.add("all", total=total, unit=unit)
        self._bands: Bar | None = None
        self._handles = workers.handles[:_WORKERS_SHOWN] if progress.shows_details else []
        self._units: dict[int, tuple[str, Bar]] = {}
        self._last = (-1, -1, -1)

    def update(self, plan: Plan) -> None:
        now = (plan.num_images, plan.num_bands, plan.all_bands)
        if now != self._last:
            self._last = now
            self._all.update(plan.num_images)
            if plan.all_bands:
                self._bands = self._bands or self._progress.add("of large images", unit="bands")
                self._bands.update(plan.num_bands, plan.all_bands)
        for number, handle in enumerate(self._handles):
            self._show(number, handle.latest)

    def _show(self, number: int, latest: HowFar | None) -> None:
        what, bar = self._units.get(number, ("", None))
        if bar is not None and (latest is None or latest.what != what):
            bar.remove()
            del self._units[number]
            bar = None
        if latest is not None:
            if bar is None:
                bar = self._progress.add(latest.what)
                self._units[number] = (latest.what, bar)
            bar.update(latest.done, latest.total)
