"""PyTorch's threads beside other processes: what waiting for each other costs, and what gives it back.

    python benchmarks/busy_threads.py --rounds 4

A process of its own for each way to wait takes training steps of a small network with as many threads as there are
cores, beside none, one and two processes that compute without end. All wait until it is their turn; turns are
interleaved, and of each the round with the fewest processor-seconds and that with the fewest seconds are kept. On a
machine that is busy by itself the load is more than the neighbours' and stands in the results.

PyTorch's wheels for Linux bring GNU's OpenMP (libgomp): `GOMP_SPINCOUNT` is its own word for how long a thread spins,
`OMP_WAIT_POLICY` that of the standard; `KMP_BLOCKTIME` is Intel's and has no effect on it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# name -> (what is set in the environment before PyTorch is loaded, threads; 0 for one a core)
WAYS: dict[str, tuple[dict[str, str], int]] = {
    "default": ({}, 0),
    "OMP_WAIT_POLICY=PASSIVE": ({"OMP_WAIT_POLICY": "PASSIVE"}, 0),
    "GOMP_SPINCOUNT=0": ({"GOMP_SPINCOUNT": "0"}, 0),
    "one thread": ({}, 1),
}
_SET_BY_US = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def work(threads: int, steps: int, batch: int, side: int) -> None:
    """Take `steps` training steps for each line on standard input; say what they cost."""
    import timm
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", num_classes=10)
    optimiser = torch.optim.AdamW(model.parameters())
    images, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % 10

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
        optimiser.zero_grad()

    step()
    print(json.dumps(torch.__version__), flush=True)
    for _ in sys.stdin:
        began, began_cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        costs = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - began_cpu}
        print(json.dumps(costs), flush=True)


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """So many processes that compute while the block runs."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(number)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


class Worker:
    """A process that takes its steps in one way, when it is asked to."""

    def __init__(self, way: str, steps: int, batch: int, side: int) -> None:
        settings, threads = WAYS[way]
        clean = {name: value for name, value in os.environ.items() if name not in _SET_BY_US}
        arguments = json.dumps({"threads": threads, "steps": steps, "batch": batch, "side": side})
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean | settings,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        self._answer()

    def measure(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The least of each way and number of neighbours, and its ratio to that of the default."""
    workers = {way: Worker(way, options.steps, options.batch, options.side) for way in WAYS}
    for worker in workers.values():
        worker.wait_until_ready()
    costs: dict[tuple[int, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for number in options.neighbours:
            with neighbours(number):
                for way, worker in workers.items():
                    cost = worker.measure()
                    costs.setdefault((number, way), []).append(cost)
                    print(number, way, cost, file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.close()
    return [_row(number, way, costs) for number in options.neighbours for way in WAYS]


def _row(number: int, way: str, costs: dict[tuple[int, str], Sequence[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"neighbours": number, "way": way}
    for what in ("processor_seconds", "seconds"):
        least = min(cost[what] for cost in costs[number, way])
        default = min(cost[what] for cost in costs[number, "default"])
        row |= {what: round(least, 3), f"{what}, of the default's": round(least / default, 2)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if options.work is not None:
        work(**options.work)
        return
    from common import print_table, write_results

    load_before = os.getloadavg()[0]
    rows = measure(options)
    loads = {"load_before": round(load_before, 1), "load_after": round(os.getloadavg()[0], 1)}
    print(loads)
    print_table(rows)
    named = {name: getattr(options, name) for name in ("rounds", "steps", "batch", "side")}
    print(write_results("busy_threads", rows, **named, **loads))


if __name__ == "__main__":
    main()
