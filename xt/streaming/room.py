"""What comes behind streamed maps, such as a context encoder; where memory runs out, without the graphs they keep."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.errors import DeviceMemoryError
from xt.streaming.conditions import Generators, autocast_state
from xt.streaming.graphs import let_go_of_graphs
from xt.streaming.memory import unless_out_of_memory


def with_room(module: nn.Module, values: Tensor, *arguments: Any, keep_graph: bool = True) -> Tensor:
    """What a module makes of tokens; if memory runs out, forward or backward, again without the graphs that maps keep.

    Args:
        values: the first argument, (images, tokens, ...); its device is where the module computes. Gradients reach it
            and the module's parameters.
        keep_graph: from forward to backward; else it is made again then, so that of many calls one graph is alive.

    Raises:
        DeviceMemoryError: it does not fit without them, either; also out of the backward pass.
    """
    behind = _Behind(module, values, arguments, keep_graph)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if torch.is_grad_enabled() and (values.requires_grad or parameters):
        result: Tensor = _WithRoom.apply(behind, values, *parameters)
        return result
    return behind.if_need_be_without_graphs(behind.result, values)


class _WithRoom(torch.autograd.Function):
    """One node of the outer graph around the module's own, which can be made again."""

    @staticmethod
    def forward(ctx: Any, behind: "_Behind", values: Tensor, *parameters: Tensor) -> Tensor:
        ctx.behind = behind
        # Saved for their version counters: see `xt.streaming.map`.
        ctx.save_for_backward(values, *parameters)
        compute = behind.result_with_graph if behind.keep_graph else behind.result
        return behind.if_need_be_without_graphs(compute, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        behind, (values, *parameters) = ctx.behind, ctx.saved_tensors
        return None, *behind.if_need_be_without_graphs(behind.gradients, values, parameters, gradient)


class _Behind:
    """One call of a module, with what it takes to make the same call again."""

    def __init__(
        self, module: nn.Module, values: Tensor, arguments: Sequence[Any], keep_graph: bool = True
    ) -> None:
        self.module, self.arguments, self.keep_graph = module, arguments, keep_graph
        self.device, self.num_tokens = values.device, values.shape[1]
        self.autocast = autocast_state(values.device)
        self.generators = Generators(values.device)
        # The leaf and the result at both ends of the module's own graph, until a backward pass has used that up.
        self.graph: tuple[Tensor, Tensor] | None = None

    def result(self, values: Tensor) -> Tensor:
        """As the call made it, which draws from where the generators stood then."""
        self.generators.restore()
        with torch.autocast(**self.autocast):
            result: Tensor = self.module(values, *self.arguments)
        return result

    def result_with_graph(self, values: Tensor) -> Tensor:
        """The same; its graph is at hand for `gradients`."""
        leaf = values.detach().requires_grad_(values.requires_grad)
        with torch.enable_grad():
            result = self.result(leaf)
        self.graph = leaf, result
        return result.detach()

    def gradients(
        self, values: Tensor, parameters: Sequence[Tensor], gradient: Tensor
    ) -> list[Tensor | None]:
        """Of the values and the parameters; None where nothing flows."""
        if self.graph is None:
            now = Generators(self.device)
            try:
                self.result_with_graph(values)
            finally:
                now.restore()
        assert self.graph is not None
        # Whatever comes of it: a pass back through a graph uses it up.
        (leaf, result), self.graph = self.graph, None
        if not result.requires_grad:
            return [None] * (1 + len(parameters))
        wanted = [leaf, *parameters] if leaf.requires_grad else parameters
        found = torch.autograd.grad(result, wanted, gradient, allow_unused=True)
        return [*found] if leaf.requires_grad else [None, *found]

    def if_need_be_without_graphs(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """What `compute` gives; if memory runs out, once more when maps have let go of their graphs."""
        found = unless_out_of_memory(compute, *arguments)
        if found is None and let_go_of_graphs(self.device):
            found = unless_out_of_memory(compute, *arguments)
        if found is None:
            way = " on its way back" if compute == self.gradients else ""
            raise DeviceMemoryError(
                f"{type(self.module).__name__} ran out of memory on {self.device}{way} with {self.num_tokens:,} "
                "tokens: set a smaller tokens_per_region, or take a context encoder that is linear in memory; `xt "
                "plan` tells what fits"
            )
        return found
