"""Predictions on request: one after the other in a thread, with progress, each until nobody asks for it any more."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from xt.errors import ConfigError, XTError
from xt.viewer.layers import Layer
from xt.viewer.live import LiveAnswer, OnLayers, OnProgress, Window

# A page asks a few times a second; one that was closed does not.
SECONDS_OF_PATIENCE = 15.0
_MOST_KEPT = 200
_OVER = ("done", "failed", "cancelled")

Predict = Callable[[OnProgress, OnLayers], LiveAnswer]


class CancelledError(XTError):
    """Nobody wants it any more."""


class Job:
    """One prediction of a window.

    Attributes:
        number: by which it is asked for.
        image: the number of the image.
        state: "waiting", "running", "done", "failed" or "cancelled".
    """

    def __init__(self, number: int, image: int, window: Window) -> None:
        self.number, self.image, self.window = number, image, window
        self.state = "waiting"
        self.what, self.done, self.total = "", 0, 0
        self.sentence, self.error = "", ""
        self.scores: dict[str, float] = {}
        self.layers: list[str] = []
        self.asked_at = monotonic()
        self.is_unwanted = threading.Event()

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    def told(self) -> dict[str, Any]:
        """How far it is, fit for JSON; that it is asked keeps it going."""
        self.asked_at = monotonic()
        return {
            "job": self.number,
            "image": self.image,
            "window": list(self.window),
            "state": self.state,
            "what": self.what,
            "done": self.done,
            "total": self.total,
            "sentence": self.sentence,
            "scores": self.scores,
            "layers": list(self.layers),
            "error": self.error,
        }


class Jobs:
    """All of a server.

    Args:
        show: called with an image's number and its layers as they come.
        patience: seconds after which a job that nobody has asked about is cancelled.
    """

    def __init__(
        self, show: Callable[[int, Sequence[Layer]], object], patience: float = SECONDS_OF_PATIENCE
    ) -> None:
        self.patience = patience
        self._show = show
        self._numbers = itertools.count(1)
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "xt-view-live")

    def start(self, image: int, window: Window, predict: Predict) -> Job:
        """Predict a window when those before are through."""
        job = Job(next(self._numbers), image, window)
        with self._lock:
            self._jobs[job.number] = job
            over = [number for number, known in self._jobs.items() if known.is_over]
            for number in over[: max(0, len(self._jobs) - _MOST_KEPT)]:
                del self._jobs[number]
        self._thread.submit(self._run, job, predict)
        return job

    def job(self, number: int) -> Job:
        """One of them.

        Raises:
            ConfigError: there is none of this number.
        """
        with self._lock:
            if number not in self._jobs:
                raise ConfigError(f"there is no prediction {number}")
            return self._jobs[number]

    def cancel(self, number: int) -> Job:
        """Stop one at its next step; errors as of `job`."""
        job = self.job(number)
        job.is_unwanted.set()
        return job

    def close(self) -> None:
        """Stop all."""
        with self._lock:
            for job in self._jobs.values():
                job.is_unwanted.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job, predict: Predict) -> None:
        def progress(what: str, done: int, total: int) -> None:
            self._require_wanted(job)
            job.what, job.done, job.total = what, done, total

        def show(layers: Sequence[Layer]) -> None:
            self._require_wanted(job)
            self._show(job.image, layers)
            job.layers = [layer.name for layer in layers]

        try:
            self._require_wanted(job)
            job.state = "running"
            answer = predict(progress, show)
            self._show(job.image, answer.layers)
            job.layers = [layer.name for layer in answer.layers]
            job.sentence, job.scores = answer.sentence, answer.scores
            job.state = "done"
        except CancelledError:
            job.state = "cancelled"
        except XTError as error:
            job.state, job.error = "failed", str(error)
        except Exception as error:
            # Whatever it is, the thread goes on with the next.
            job.state, job.error = "failed", f"the prediction failed: {type(error).__name__}: {error}"

    def _require_wanted(self, job: Job) -> None:
        if job.is_unwanted.is_set() or monotonic() - job.asked_at > self.patience:
            raise CancelledError(f"the prediction {job.number} was cancelled")
