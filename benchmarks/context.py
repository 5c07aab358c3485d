"""Time and peak memory of the context encoders by length, forward and training step.

    python benchmarks/context.py measure                 # every encoder and length that fits; hours on a slow machine
    python benchmarks/context.py measure --encoders mamba mamba2 --lengths 4096 16384 --modes forward
    python benchmarks/context.py compare                 # beside step-by-step recurrences and the transformers package
    python benchmarks/context.py plot                    # cost per token, as a picture
    python benchmarks/context.py summary                 # time per token by length, slope of the memory

Each point is a fresh process: peak memory is the process's own, above what it held before the encoder ran. Results are
added to benchmarks/results/context.csv, with date, commit, hardware and versions in every row; those of `compare` stay
together in a file of their own, as what is beside each other has to be of one run. With one thread the time per token
is the processor's, which other work on the machine disturbs less; else the clock's.
"""

import argparse
import csv
import datetime
import json
import platform
import subprocess
import sys
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "context.csv"
ENCODERS = (
    "transformer_xl", "hyper", "mamba", "mamba2", "gated_delta", "longformer", "longformer_2d", "multiscale", "full",
)  # fmt: skip
REFERENCES = (
    "longformer_flex", "mamba_plain", "mamba_step", "mamba2_step", "mamba2_token", "mamba2_scan", "mamba2_scan_step",
    "transformers_mamba", "transformers_mambapy", "transformers_longformer", "gated_delta_step", "fla_gated_delta",
    "transformers_gated_delta", "atlas",
)  # fmt: skip
LENGTHS = (4096, 16384, 65536, 262144, 1048576)
COLUMNS = (
    "encoder", "mode", "length", "seconds", "processor_seconds", "microseconds_per_token", "peak_mb",
    "peak_bytes_per_token", "dim", "depth", "device", "threads", "date", "commit", "hardware", "python", "torch",
    "transformers",
)  # fmt: skip
DIM, DEPTH = 256, 2
SHORT, LONG = 16384, 262144
REPEAT_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, encoders, lengths, results in (
        ("measure", ENCODERS, LENGTHS, None),
        (
            "compare",
            ("mamba", "mamba2", "longformer", "gated_delta", "multiscale", *REFERENCES),
            (4096, 16384),
            "context_beside",
        ),
    ):
        command = commands.add_parser(name)
        command.add_argument("--encoders", nargs="+", default=encoders, choices=ENCODERS + REFERENCES)
        command.add_argument("--lengths", nargs="+", type=int, default=lengths)
        command.add_argument("--modes", nargs="+", default=("forward", "train"))
        command.add_argument("--device", default="cpu")
        command.add_argument("--threads", type=int, default=0, help="0 for torch's own choice")
        command.add_argument(
            "--repeat", type=float, default=REPEAT_SECONDS, help="seconds to repeat a point for"
        )
        command.add_argument("--timeout", type=float, default=3600, help="seconds for one point")
        command.add_argument(
            "--results", default=results, help="write to results/NAME-DATE.json instead of the table of all"
        )
    point = commands.add_parser("point")
    point.add_argument("settings", type=json.loads)
    commands.add_parser("plot")
    commands.add_parser("summary")
    arguments = parser.parse_args()
    if arguments.command == "point":
        print(json.dumps(measure_point(**arguments.settings)))
    elif arguments.command == "plot":
        plot()
    elif arguments.command == "summary":
        summary()
    else:
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Measure each point in a process of its own, and write it down at once."""
    from common import write_results

    rows: list[dict[str, Any]] = []
    for encoder in arguments.encoders:
        for mode in arguments.modes:
            for length in arguments.lengths:
                settings = {
                    "encoder": encoder,
                    "mode": mode,
                    "length": length,
                    "device": arguments.device,
                    "threads": arguments.threads,
                    "repeat": arguments.repeat,
                }
                row = _run(settings, arguments.timeout)
                if row is None:
                    print(f"{encoder:24} {mode:8} {length:9}  does not fit in memory or time", flush=True)
                    break
                rows.append(row)
                if arguments.results:
                    write_results(arguments.results, rows)
                else:
                    _write(row)
                print(
                    f"{encoder:24} {mode:8} {length:9} {row['seconds']:9.2f} s {row['processor_seconds']:9.2f} s cpu "
                    f"{row['microseconds_per_token']:8.1f} us/token {row['peak_mb']:9.1f} MB "
                    f"{row['peak_bytes_per_token']:8.0f} bytes/token",
                    flush=True,
                )


def _run(settings: dict[str, Any], timeout: float) -> dict[str, Any] | None:
    command = [sys.executable, __file__, "point", json.dumps(settings)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None
    if process.returncode:
        print(process.stderr[-500:], file=sys.stderr)
        return None
    return json.loads(process.stdout.splitlines()[-1])


def _write(row: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def measure_point(
    encoder: str, mode: str, length: int, device: str, threads: int, repeat: float
) -> dict[str, Any]:
    """Run one encoder once at one length, after a small run to warm up."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = make(encoder).to(device).train(mode == "train")
    tokens = torch.randn(1, length, DIM, device=device, requires_grad=mode == "train")
    side = int(length**0.5)
    index = torch.arange(length, device=device)
    positions = 32.0 * torch.stack([index // side, index % side], dim=1)[None] + 16
    short = min(length, 512)
    run(model, tokens[:, :short], positions[:, :short], mode)
    model.zero_grad()
    tokens.grad = None

    before = _peak_bytes(device, reset=True)
    seconds, processor_seconds = time_once(model, tokens, positions, mode)
    peak = _peak_bytes(device) - before
    # A short run alone may fall into a quiet moment or a busy one: the mean over as long a time as long runs take.
    times = [(seconds, processor_seconds)]
    while sum(took for _, took in times) < repeat:
        model.zero_grad()
        tokens.grad = None
        times.append(time_once(model, tokens, positions, mode))
    seconds, processor_seconds = (sum(column) / len(times) for column in zip(*times, strict=True))
    # On a machine shared with others, what one thread took of the processor says more than the clock.
    cost = processor_seconds if device == "cpu" and torch.get_num_threads() == 1 else seconds
    return {
        "encoder": encoder,
        "mode": mode,
        "length": length,
        "seconds": round(seconds, 4),
        "processor_seconds": round(processor_seconds, 4),
        "microseconds_per_token": round(cost / length * 1e6, 3),
        "peak_mb": round(peak / 1e6, 1),
        "peak_bytes_per_token": round(peak / length),
        "dim": DIM,
        "depth": DEPTH,
        "device": device,
        "threads": torch.get_num_threads(),
        **surroundings(device),
    }


def time_once(model: Any, tokens: Any, positions: Any, mode: str) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    import torch

    start, processor_start = time.perf_counter(), time.process_time()
    run(model, tokens, positions, mode)
    if tokens.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - processor_start


def run(model: Any, tokens: Any, positions: Any, mode: str) -> None:
    import torch

    if mode == "forward":
        with torch.no_grad():
            model(tokens, positions)
    else:
        model(tokens, positions).mean().backward()


def _peak_bytes(device: str, reset: bool = False) -> int:
    """Most memory this process held since the last reset; on the CPU resident memory, as the kernel counts it."""
    if device != "cpu":
        import torch

        if reset:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak of resident memory")


def make(encoder: str) -> Any:
    """One of ours, or something to compare with, as a module from tokens and positions to tokens."""
    from xt.context_encoders import create_context_encoder

    if encoder in REFERENCES:
        import context_references

        return getattr(context_references, encoder)(DIM, DEPTH)
    if encoder == "longformer_2d":
        return create_context_encoder("longformer", dim=DIM, depth=DEPTH, window="2d")
    return create_context_encoder(encoder, dim=DIM, depth=DEPTH)


def surroundings(device: str) -> dict[str, str]:
    """What a result depends on and nobody remembers."""
    import importlib.metadata

    import torch

    root = Path(__file__).parents[1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = f"{len(names)} x {names[0].split(':')[1].strip()}" if names else processor
    try:
        transformers = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        transformers = ""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "hardware": processor if device == "cpu" else torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers,
    }


def summary() -> None:
    """Whether cost is linear: time per token of long sequences over that of 16k, bytes of each token more.

    The commit is that of the oldest point at 16k; each row says at which commits its points were measured.
    """
    from common import print_table, write_results

    latest = latest_rows()
    rows = []
    for encoder in ENCODERS:
        for mode in ("forward", "train"):
            found = {
                length: latest[encoder, mode, length]
                for length in LENGTHS
                if (encoder, mode, length) in latest
            }
            if SHORT not in found:
                continue
            times = {length: float(row["microseconds_per_token"]) for length, row in found.items()}
            peaks = {length: float(row["peak_mb"]) * 1e6 for length, row in found.items()}
            longest = max(found)
            slope = (peaks[longest] - peaks[SHORT]) / (longest - SHORT) if longest > SHORT else None
            rows.append(
                {
                    "encoder": encoder,
                    "mode": mode,
                    "us/token at 16k": times[SHORT],
                    "at 262k": times.get(LONG, "-"),
                    "262k over 16k": times[LONG] / times[SHORT] if LONG in times else "-",
                    "at 1M": times.get(LENGTHS[-1], "-"),
                    "peak MB at 16k": peaks[SHORT] / 1e6,
                    "longest": longest,
                    "bytes a token more": "-" if slope is None else round(slope),
                    "in tokens": "-" if slope is None else slope / (4 * DIM),
                    "commits": {str(length): row["commit"] for length, row in found.items()},
                }
            )
    print_table([{key: value for key, value in row.items() if key != "commits"} for row in rows])
    oldest = min(
        (row for key, row in latest.items() if key[0] in ENCODERS and key[2] == SHORT), key=itemgetter("date")
    )
    results = write_results("context_summary", rows, dim=DIM, depth=DEPTH, commit=oldest["commit"])
    print(f"results: {results}")


def latest_rows() -> dict[tuple[str, str, int], dict[str, str]]:
    """The last measurement of each encoder, mode and length."""
    with TABLE.open() as file:
        return {(row["encoder"], row["mode"], int(row["length"])): row for row in csv.DictReader(file)}


def plot() -> None:
    """Draw cost per token against length, from the latest measurement of each point."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    latest = latest_rows()
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharex=True, layout="constrained")
    for column, mode in enumerate(("forward", "train")):
        panels = (
            ("microseconds_per_token", "microseconds per token"),
            ("peak_bytes_per_token", "peak bytes per token"),
        )
        for axis, (quantity, label) in zip(axes[:, column], panels, strict=True):
            for encoder in ENCODERS:
                lengths = sorted(key[2] for key in latest if key[:2] == (encoder, mode))
                values = [float(latest[encoder, mode, length][quantity]) for length in lengths]
                axis.plot(lengths, values, marker="o", label=encoder)
            axis.set(
                xscale="log", yscale="log", ylabel=label, title="forward" if column == 0 else "training step"
            )
            axis.set_xticks(LENGTHS, ["4k", "16k", "65k", "262k", "1M"], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    for axis in axes[1]:
        axis.set_xlabel("tokens")
    row = next(iter(latest.values()))
    figure.suptitle(f"Context encoders, width {DIM}, {DEPTH} layers, {row['hardware']}", fontsize=10)
    figure.savefig(RESULTS / "context.png", dpi=110)
    print(RESULTS / "context.png")


if __name__ == "__main__":
    main()
