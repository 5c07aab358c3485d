"""Two processes that share out the regions of one image, against one process with one thread.

Encoding of all regions to tokens by the streamed map, read from a JPEG-compressed tiled TIFF, forward and, with
--training, backward. Every process has one thread and, where there are as many, a core of its own. Rounds of one and of
two processes take turns; the speed-up is that of the medians. The processor's time of the busiest process says how well
the work was divided, also where the machine has other things to do.

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


def encode(path: Path, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Of each round: seconds until the last process is done, and the processor's seconds of the busiest one."""
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
    rounds = []
    for _ in range(arguments.rounds + 1):
        image = xt.open_image(path)
        dist.barrier()
        begin, busy = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(arguments.training):
            logits = model(image, **settings)
        if arguments.training:
            logits.sum().backward()
        busiest = torch.tensor(time.process_time() - busy)
        dist.all_reduce(busiest, dist.ReduceOp.MAX)
        rounds.append((time.perf_counter() - begin, float(busiest)))
        image.close()
    return rounds[1:]


def measured(processes: int, path: Path) -> list[tuple[float, float]]:
    """The rounds in fresh processes, each of one thread."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launcher, __file__, *sys.argv[1:], "--image", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: list[tuple[float, float]] = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("["))
    )
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
        result = encode(arguments.image, arguments)
        if dist.get_rank() == 0:
            print(json.dumps(result))
        dist.destroy_process_group()
        return
    rounds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = make_scene(Path(folder) / "scene.tif", arguments.size)
        for _ in range(arguments.turns):
            for processes, found in rounds.items():
                found += measured(processes, path)
    regions = (-(-arguments.size // 256)) ** 2
    medians = {
        number: [statistics.median(column) for column in zip(*found, strict=True)]
        for number, found in rounds.items()
    }
    rows: list[dict[str, Any]] = [
        {
            "processes": number,
            "seconds": seconds,
            "fastest": min(found)[0],
            "slowest": max(found)[0],
            "regions per second": regions / seconds,
            "speed-up": medians[1][0] / seconds,
            "busiest process, CPU seconds": busiest,
            "speed-up by CPU seconds": medians[1][1] / busiest,
        }
        for (number, found), (seconds, busiest) in zip(rounds.items(), medians.values(), strict=True)
    ]
    print_table(rows)
    settings = {name: value for name, value in vars(arguments).items() if name != "image"}
    name = "region_parallel_training" if arguments.training else "region_parallel"
    print(write_results(name, rows, **settings, regions=regions, processes_threads=1, load=os.getloadavg()))


if __name__ == "__main__":
    main()
