"""Graphs as files, and files as something that can be called: torch.export, AOTInductor and ONNX behind one word."""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.export import ExportedProgram

from xt.errors import CheckpointError, ConfigError, MissingPackageError
from xt.exporting.parts import Part

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Program(ABC):
    """A graph that was read from a file: tensors in, a tuple of tensors out, on whatever device they are."""

    ending: ClassVar[str]

    @classmethod
    @abstractmethod
    def write(cls, part: Part, graph: ExportedProgram, path: Path) -> None:
        """Write the graph of a part."""

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> "Program":
        """Read it again."""

    @abstractmethod
    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute, on the CPU."""

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        device = tensors[0].device
        with torch.no_grad():
            found = self.run([tensor.detach().cpu().contiguous() for tensor in tensors])
        return tuple(tensor.to(device) for tensor in found)


class TorchProgram(Program):
    """torch.export's own file, run operation by operation as the model itself is."""

    ending = ".pt2"

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    @classmethod
    def write(cls, part: Part, graph: ExportedProgram, path: Path) -> None:
        # What it was tried on is of no use to anyone.
        graph.example_inputs = None
        torch.export.save(graph, path)

    @classmethod
    def read(cls, path: Path) -> Program:
        return cls(torch.export.load(path).module())

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        found: Sequence[Tensor] = self.graph(*tensors)
        return found


class CompiledProgram(Program):
    """AOTInductor's package: machine code for this kind of processor."""

    ending = ".compiled.pt2"

    def __init__(self, package: Any) -> None:
        self.package = package

    @classmethod
    def write(cls, part: Part, graph: ExportedProgram, path: Path) -> None:
        from torch._inductor import aoti_compile_and_package

        aoti_compile_and_package(graph, package_path=str(path))

    @classmethod
    def read(cls, path: Path) -> Program:
        from torch._inductor import aoti_load_package

        return cls(aoti_load_package(str(path)))

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        found: Sequence[Tensor] = self.package(*tensors)
        return found


class OnnxProgram(Program):
    """ONNX, run by ONNX Runtime."""

    ending = ".onnx"

    def __init__(self, session: Any) -> None:
        self.session = session
        self.names = [entry.name for entry in session.get_inputs()]

    @classmethod
    def write(cls, part: Part, graph: ExportedProgram, path: Path) -> None:
        try:
            import onnxscript  # noqa: F401
        except ImportError:
            raise _missing("onnxscript") from None
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                dynamo=True,
                verbose=False,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                custom_translation_table={torch.ops.aten.sort.stable: _sorted_stably},
            )
        assert program is not None
        program.save(path, external_data=False)

    @classmethod
    def read(cls, path: Path) -> Program:
        try:
            import onnxruntime
        except ImportError:
            raise _missing("onnxruntime") from None
        options = onnxruntime.SessionOptions()
        # As many as PyTorch, which is told by OMP_NUM_THREADS and the like.
        options.intra_op_num_threads = torch.get_num_threads()
        # Errors only: that it leaves out what a graph does not use is of no concern to who predicts.
        options.log_severity_level = 3
        return cls(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        given = dict(zip(self.names, (tensor.numpy() for tensor in tensors), strict=True))
        return [torch.from_numpy(array) for array in self.session.run(None, given)]


def _sorted_stably(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """PyTorch's stable sort in ONNX, which PyTorch itself translates only where equals may change places.

    Of equals, TopK gives the first one first: https://onnx.ai/onnx/operators/onnx__TopK.html
    """
    from onnxscript import opset18

    operations: Any = opset18
    length = operations.Gather(operations.Shape(values), operations.Constant(value_ints=[dim]), axis=0)
    return operations.TopK(values, length, axis=dim, largest=int(descending), sorted=1)


PROGRAMS: dict[str, type[Program]] = {"pt2": TorchProgram, "compiled": CompiledProgram, "onnx": OnnxProgram}


def graph_of(part: Part) -> ExportedProgram:
    """A part as a graph that holds for every number of regions or tokens.

    Raises:
        ConfigError: there is none.
    """
    try:
        # The same arguments whatever their number: a tuple of their own stands for each.
        free: Any = tuple(part.free_sizes)
        if part.name == "head" and len(part.inputs) > 0 and _takes_any(part):
            free = (free,)
        with torch.no_grad():
            return torch.export.export(part.module, part.example, dynamic_shapes=free, strict=False)
    except ConfigError:
        raise
    except Exception as error:  # whatever its operations lead to
        raise ConfigError(_refusal(part, "exported", error)) from error


def kind_of(graph: ExportedProgram, graphs: str) -> str:
    """As what a graph is written where `graphs` are asked for: AOTInductor takes no loops over an unknown number."""
    loops = any("scan" in str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    return "pt2" if graphs == "compiled" and loops else graphs


def write_part(part: Part, graph: ExportedProgram, path: Path, graphs: str) -> None:
    """Write a part's graph.

    Raises:
        ConfigError: it cannot be written so.
    """
    try:
        PROGRAMS[graphs].write(part, graph, path)
    except (ConfigError, MissingPackageError):
        raise
    except Exception as error:  # likewise
        raise ConfigError(_refusal(part, f"written as {graphs}", error)) from error


def read_part(path: Path, graphs: str) -> Program:
    """A graph from its file.

    Raises:
        CheckpointError: this machine cannot run it.
        MissingPackageError: what runs it is not installed.
    """
    if graphs not in PROGRAMS:
        raise CheckpointError(f"{path} is of the kind {graphs!r}; known are {', '.join(PROGRAMS)}")
    try:
        return PROGRAMS[graphs].read(path)
    except MissingPackageError:
        raise
    except Exception as error:  # whatever the version, the processor or the damage leads to
        raise CheckpointError(
            f"{path} cannot be run here ({_first_line(error)}): export the model again with this version of PyTorch, "
            "or as another format"
        ) from error


def _takes_any(part: Part) -> bool:
    """Whether its module is written for any number of arguments."""
    return bool(part.module.forward.__code__.co_flags & 0x04)


def _refusal(part: Part, what: str, error: Exception) -> str:
    name = part.name.replace("_", " ")
    return f"the {name} cannot be {what} ({_first_line(error)}): docs/export.md tells which parts can"


def _first_line(error: BaseException) -> str:
    """What went wrong at the bottom of it: PyTorch wraps it into what it was about, for who looks at a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(
        f"exported models of the format onnx need the package {package}, which is not installed: pip install "
        "'xt-vision[export]'"
    )
