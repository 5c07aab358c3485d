"""Two processes that share out the regions of one image, against one process with one thread.

Encoding of all regions to tokens by the streamed map, read from a JPEG-compressed tiled TIFF, forward and, with
--training, backward. Every process has one thread and, where there are as many, a core of its own. Rounds of one and of
two processes take turns; the speed-up is that of the medians.

    python benchmarks/region_parallel.py
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.distributed as dist
from common import make_scene, print_table, write_results
from torch.distributed.device_mesh import init_device_mesh

import xt


def encode(path: Path, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each round, as the slowest process sees it."""
    torch.set_num_threads(1)
    rank, processes = dist.get_rank(), dist.get_world_size()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    mesh = init_device_mesh("cpu", (processes,), mesh_dim_names=("region",))
    torch.manual_seed(0)
    model = xt.create_model(arguments.encoder, context="none", num_classes=2, region_size=256).train(
        arguments.training
    )
    settings = {"region_parallel": mesh["region"], "region_batch": arguments.region_batch}
    seconds = []
    for _ in range(arguments.rounds + 1):
        image = xt.open_image(path)
        dist.barrier()
        begin = time.perf_counter()
        with torch.set_grad_enabled(arguments.training):
            logits = model(image, **settings)
        if arguments.training:
            logits.sum().backward()
        dist.barrier()
        seconds.append(time.perf_counter() - begin)
        image.close()
    return seconds[1:]


def measured(processes: int, path: Path) -> list[float]:
    """Seconds of each round in fresh processes, each of one thread."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launcher, __file__, *sys.argv[1:], "--image", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: list[float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--size", type=int, default=2048, help="side of the image, in pixels")
    parser.add_argument("--region-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="timed in each process, after one that is not")
    parser.add_argument("--turns", type=int, default=2, help="how often one and two processes take turns")
    parser.add_argument("--training", action="store_true", help="with gradients, computed again")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.image:
        dist.init_process_group("gloo")
        seconds = encode(arguments.image, arguments)
        if dist.get_rank() == 0:
            print(json.dumps(seconds))
        dist.destroy_process_group()
        return
    rounds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = make_scene(Path(folder) / "scene.tif", arguments.size)
        for _ in range(arguments.turns):
            for processes, seconds in rounds.items():
                seconds += measured(processes, path)
    regions = (-(-arguments.size // 256)) ** 2
    medians = {processes: statistics.median(seconds) for processes, seconds in rounds.items()}
    rows: list[dict[str, Any]] = [
        {
            "processes": processes,
            "seconds": medians[processes],
            "slowest": max(seconds),
            "fastest": min(seconds),
            "regions per second": regions / medians[processes],
            "speed-up": medians[1] / medians[processes],
        }
        for processes, seconds in rounds.items()
    ]
    print_table(rows)
    settings = {name: value for name, value in vars(arguments).items() if name != "image"}
    name = "region_parallel_training" if arguments.training else "region_parallel"
    print(write_results(name, rows, **settings, regions=regions, processes_threads=1, load=os.getloadavg()))


if __name__ == "__main__":
    main()
