"""Everything that only a GPU can show, one step after the other, the most telling first.

    python benchmarks/gpu.py                                    # or make gpu; about 25 minutes
    python benchmarks/gpu.py --only large-step throughput
    python benchmarks/gpu.py --only largest --minutes 60        # longer than it may take among the others
    python benchmarks/gpu.py --device cpu --small               # the same code paths, tiny, in under three minutes

Each step is a process with a time limit of its own, and writes results/gpu-STEP-DATE.json row by row (--small: to a
folder of its own). Called again, it goes on where it was stopped: steps that the same commit has done on the same
device are not done again. What to do with the results is in docs/gpu.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, commit, print_table
from gpu_steps import STEPS
from gpu_words import in_short

HERE = Path(__file__).parent
# What a process may need to end by itself when it is asked to.
GRACE_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=25, help="for all steps together")
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="everything tiny, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for the results; default: benchmarks/results")
    parser.add_argument("--again", action="store_true", help="do again what is done")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --small tries the steps out")
    out = options.out or (RESULTS / "small" if options.small else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    wanted = options.only or list(STEPS)
    rows = []
    for name in wanted:
        path = file_of(name, out, options.device, small=options.small, again=options.again)
        if status_of(path) == "done":
            print(f"{name}: done before, {path.name}")
        elif end - time.monotonic() < 1:
            print(f"{name}: no time left")
        else:
            print(f"{name}: {STEPS[name].what}", flush=True)
            limit = min(limit_of(name, wanted, options.minutes), end - time.monotonic())
            run(name, path, options.device, limit, small=options.small)
        rows.append({"step": name} | summary(name, path))
    print()
    print_table(rows)
    return int(any(row["status"] != "done" for row in rows))


def limit_of(name: str, wanted: Sequence[str], minutes: float) -> float:
    """Seconds for a step: its share of the minutes where there are more than the wanted steps ask for."""
    asked = sum(STEPS[step].minutes for step in wanted)
    return 60 * STEPS[name].minutes * max(1.0, minutes / asked)


def file_of(name: str, folder: Path, device: str, *, small: bool, again: bool) -> Path:
    """The step's newest file if this commit began it on this device; else one of today."""
    today = folder / f"gpu-{name}-{date.today()}.json"
    if again:
        today.unlink(missing_ok=True)
        return today
    wanted = (commit(), device, _gpu(device), small)
    for path in sorted(folder.glob(f"gpu-{name}-[0-9]*.json"), reverse=True):
        content = json.loads(path.read_text())
        if wanted == tuple(content.get(key) for key in ("commit", "device", "gpu", "small")):
            return path
    today.unlink(missing_ok=True)
    return today


def run(name: str, path: Path, device: str, seconds: float, *, small: bool) -> None:
    """The step in a process of its own, which is ended with all it started when its time is over."""
    command = [sys.executable, str(HERE / "gpu_steps.py"), name, "--out", str(path), "--device", device]
    # Threads that share a core with other work wait for each other longer than all of a tiny step takes.
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if small else {})
    command += ["--small"] if small else []
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        code = process.wait(seconds)
        if code not in (0, 1):
            _mark(path, f"the process ended with {code}")
    except subprocess.TimeoutExpired:
        _end(process)
        _mark(path, f"stopped after {seconds:.0f} s")
    except BaseException:
        _end(process)
        _mark(path, "interrupted")
        raise


def summary(name: str, path: Path) -> dict[str, Any]:
    content = (
        json.loads(path.read_text()) if path.exists() else {"rows": [], "status": "not begun", "seconds": 0}
    )
    found = in_short(name, content["rows"]) if content["rows"] else ""
    return {"status": content["status"], "seconds": float(content["seconds"]), "found": found}


def status_of(path: Path) -> str | None:
    return json.loads(path.read_text())["status"] if path.exists() else None


def _mark(path: Path, status: str) -> None:
    if path.exists():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}, indent=1) + "\n")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The process and whatever it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def _gpu(device: str) -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


if __name__ == "__main__":
    # Whoever ends a job asks for it by either.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here")
        sys.exit(130)
