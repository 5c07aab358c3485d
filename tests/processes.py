"""New Python processes that need not load PyTorch first: they are forked off one that has, and has nothing of xt.

Half of a short test would else be the loading of libraries, once in each process. What processes begin as users begin
them is tested by those marked slow. Without forks (Windows), processes are begun anew.
"""

import functools
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ["timm", "lightning.pytorch", "rasterio", "pandas"]


@dataclass(frozen=True)
class Ended:
    """As `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@functools.cache
def context() -> BaseContext:
    """Of `multiprocessing`; in its processes PyTorch computes with one thread."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # One that `xt check` has begun holds modules of xt, and not these libraries.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    forkserver.set_forkserver_preload(LIBRARIES)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    return multiprocessing.get_context("forkserver")


class Begun:
    """A process that runs Python's arguments, such as `-m`, `xt.cli.main` and what follows, or `-c` and code.

    Args:
        folder: that it runs in.
        environment: changes of this one.
        path: where modules are looked for first.
    """

    def __init__(
        self,
        *arguments: object,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> None:
        self._said = tempfile.TemporaryDirectory()
        how = (str(folder), {**os.environ, **(environment or {})}, None if path is None else str(path))
        make: Callable[..., BaseProcess] = context().Process  # type: ignore[attr-defined]
        self.process = make(target=_run, args=(self._said.name, *how, [*map(str, arguments)]))
        self.process.start()

    def end(self, timeout: float = 200) -> Ended:
        """Wait for it.

        Raises:
            TimeoutError: it took too long, and was killed.
        """
        self.process.join(timeout)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            self.process.join()
        said = [(Path(self._said.name) / name).read_text() for name in ("stdout", "stderr")]
        self._said.cleanup()
        if status is None:
            raise TimeoutError(f"{timeout} s; it said {said[1][-3000:]}")
        return Ended(status, *said)


def python(*arguments: object, **how: Any) -> Ended:
    """A process that has come to its end; args as of `Begun`."""
    return Begun(*arguments, **how).end()


def _run(
    said: str, folder: str, environment: Mapping[str, str], path: str | None, arguments: list[str]
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(os.path.join(said, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.update(environment)
    if path is not None:
        sys.path.insert(0, path)
    what, program, *rest = arguments
    sys.argv = [what if what == "-c" else program, *rest]
    if what == "-c":
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


class ForkedPopen:
    """As `subprocess.Popen` of this Python, as a context; what it says can be read when it has ended."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], stderr: IO[str], **_: Any) -> None:
        self._begun = Begun(*command[1:], environment=env)
        self._errors = stderr

    def __enter__(self) -> "ForkedPopen":
        ended = self._begun.end()
        self.returncode, self.stdout = ended.returncode, ended.stdout.splitlines(keepends=True)
        self._errors.write(ended.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        return
