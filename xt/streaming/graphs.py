"""The graphs of region batches that are kept between forward and backward, as many as there is room for."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor

from xt.streaming.keep import Keep
from xt.streaming.memory import GRAPH_SHARE, SavedBytes, free_bytes
from xt.streaming.tensors import Outputs

# With keep="auto": what is reserved for what comes behind the map, in multiples of its output (layers of the context
# encoder, their gradients).
_RESERVED_OUTPUTS = 8

# Those of passes that have not gone backward yet; whatever comes behind a map can do without them.
_kept: "WeakSet[KeptGraphs]" = WeakSet()


class Computed(NamedTuple):
    """What the function made of some regions, and the rows it was given of the gathered tensors; with their graph."""

    outputs: Outputs
    gathered: Sequence[Tensor]

    def rows_of(self, gradients: Outputs, row: int) -> list[Tensor]:
        """The incoming gradients of these outputs, which start at that row."""
        return [gradient[row : row + len(self.outputs[0])] for gradient in gradients]


class KeptGraphs:
    """One pass's graphs, by the numbers of their region batches.

    Args:
        keep: see `Streaming`.
        device: that they are on.
    """

    def __init__(self, keep: Keep, device: torch.device) -> None:
        self.device = device
        # Bytes that graphs may still take; None to find out when the first one has been measured.
        self._room: float | None = _room(keep)
        # That one takes; 0 as long as none has been measured.
        self._graph_bytes = 0
        self._computed: dict[int, Computed] = {}
        _kept.add(self)

    def have_room(self) -> bool:
        """Whether another graph may be made to be kept."""
        return self._room is None or 0 < self._room >= self._graph_bytes

    @contextmanager
    def measured(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Around the making of a graph: where room is limited the first is measured; the others are as large."""
        if self._graph_bytes or self._room == math.inf:
            yield
            return
        with SavedBytes(parameters) as saved:
            yield
        self._graph_bytes = saved.total

    def keep(self, number: int, computed: Computed, num_batches: int) -> None:
        """Hold on to a batch's graph, if it turns out to fit.

        Args:
            num_batches: of all batches, whose outputs are wanted in memory, too.
        """
        if self._room is None:
            # The recompute of another batch needs room too, and so does what follows the map.
            output_bytes = sum(output.nbytes for output in computed.outputs)
            behind = self._graph_bytes + _RESERVED_OUTPUTS * output_bytes * num_batches
            self._room = self._graph_bytes + GRAPH_SHARE * free_bytes(self.device) - behind
        if self._graph_bytes <= self._room:
            self._room -= self._graph_bytes
            self._computed[number] = computed

    def taken(self) -> Iterator[tuple[int, Computed]]:
        """Each that is kept, which is not kept any longer: a pass back through a graph uses it up."""
        for number in list(self._computed):
            computed = self._computed.pop(number, None)
            if computed is not None:  # not let go meanwhile, as memory ran out
                yield number, computed
                del computed

    def let_go(self) -> bool:
        """Memory ran out: let go of all graphs and keep no more; whether there were any."""
        had_graphs = bool(self._computed)
        self._computed.clear()
        self._room = 0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return had_graphs


def let_go_of_graphs(device: torch.device) -> bool:
    """For memory that ran out behind a map: let go of what maps keep on a device; whether there was anything."""
    had_graphs = [graphs.let_go() for graphs in _kept if graphs.device == device]
    return any(had_graphs)


def _room(keep: Keep) -> float | None:
    if keep == "auto":
        return None
    return {"none": 0, "all": math.inf}[keep] if isinstance(keep, str) else keep
