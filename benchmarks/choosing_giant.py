"""The demo's giant image as skies and seas are: all of its regions, and a tenth of them chosen by content.

    xt demo
    python benchmarks/choosing_giant.py [--demo demo] [--seeds 3] [--inhabited 0.05]

29,000 x 25,000 pixels with a key in one corner. Digits and clutter lie in a share of its squares of 1,024 pixels, as
densely as on the demo's own, which is all inhabited; everything else is plain ground. A region is looked at closely if
a part of it has more than twice the image's mean content, as far as a tenth of the regions goes. All regions are for
the demo's model, as it is; the one that chooses goes on from it for some steps on smaller scenes of this kind, as it
has never seen coarse regions, with the lowest score that counts chosen on further ones. Beside it the demo's model with
the same choice, untaught. Each search is a process of its own, one after the other, so that its time and memory are its
alone; all regions take long, and are searched on as many images as asked for.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import print_table, write_results

import xt
from xt.demo.far_apart import far_apart
from xt.demo.giant_scene import find_on_giant
from xt.demo.key_contest import key_model_path
from xt.demo.key_scenes import KeyLayout, KeyScene
from xt.demo.key_task import DISTANCE, REGION_SIZE, found_points, key_scene
from xt.demo.settings import DemoSettings
from xt.metrics.points import PointScores
from xt.model.choices import create_region_choice
from xt.model.looking import looking_at

# Beyond those of giants.py.
FIRST_SEED = 7000
CONTEXT = "mamba"
CHOICE = {"name": "by_content", "levels": 4, "budget": 0.1, "tolerance": 2.0}
# Of smaller scenes more is inhabited, and so is the mean content larger.
TAUGHT = KeyLayout(3072, 3072, kinds=4, of_each=5, clutter=0.6, inhabited=0.2)
TAUGHT_CHOICE = CHOICE | {"budget": 0.5, "tolerance": 0.6}
SCENES, IMAGES, LR = 40, 2, 2e-3
# Regions that come between key and digits at most, see `far_apart`.
BETWEEN = 4096
THRESHOLDS = (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that `xt demo` wrote")
    parser.add_argument("--seeds", type=int, default=3, help="how many images of each kind (default: 3)")
    parser.add_argument("--all-seeds", type=int, default=1, help="images searched all over (default: 1)")
    parser.add_argument("--steps", type=int, default=60, help="that the chooser is taught (default: 60)")
    parser.add_argument("--inhabited", type=float, default=0.05, help="share of the image")
    parser.add_argument("--side", type=int, nargs=2, help="height and width, for smaller images")
    arguments = parser.parse_args()
    results = arguments.demo / "results.json"
    if not results.is_file():
        print(f"choosing_giant: there is no {results}; run `xt demo --out {arguments.demo}` first")
        return 2
    threshold = json.loads(results.read_text())["key"]["contexts"][CONTEXT]["threshold"]
    model = key_model_path(arguments.demo, CONTEXT)
    layout = DemoSettings().giant
    of_each, pixels = layout.of_each * arguments.inhabited, layout.height * layout.width
    if arguments.side:
        height, width = arguments.side
        layout = layout._replace(height=height, width=width)
        of_each *= height * width / pixels
    layout = layout._replace(inhabited=arguments.inhabited, of_each=max(1, round(of_each)))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        taught, best = Path(folder) / "taught.safetensors", teach(model, Path(folder), arguments.steps)
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        ways: dict[str, tuple[Any, ...]] = {
            "by_content, taught": (taught, best, CHOICE, seeds),
            "by_content, untaught": (model, threshold, CHOICE, seeds),
            "all": (model, threshold, None, seeds[: arguments.all_seeds]),
        }
        for name, (searching, least, choice, searched) in ways.items():
            for seed in searched:
                path = Path(folder) / "giant.tif"
                giant = find_on_giant(searching, least, layout, seed, path, lambda *_: None, choice).summary()
                rows.append({"looked_at": name, "seed": seed, "threshold": least, **giant})
                print(f"{name}, seed {seed}: F1 {giant['f1']:.3f}, {giant['regions']} regions", flush=True)
                told = {"inhabited": arguments.inhabited, "choice": CHOICE, "steps": arguments.steps}
                written = write_results("choosing_giant", rows, summary=summaries(rows), **told)
    print_table(summaries(rows))
    print(f"wrote {written}")
    return 0


def teach(path: Path, folder: Path, steps: int) -> float:
    """Write the model that has gone on in chosen regions into the folder; the lowest score that counts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = xt.load_model(path)
    named = {key: value for key, value in CHOICE.items() if key not in ("name", "levels")}
    config = replace(before.config, regions="by_content", levels=CHOICE["levels"], regions_options=named)
    model = xt.create_model(**asdict(config))
    model.load_state_dict(before.state_dict(), strict=False)
    model.region_encoder.freeze()
    model.streaming = xt.Streaming(region_batch=32, keep="all", features="device", threads=1)
    scenes = [key_scene(TAUGHT, "train", FIRST_SEED, 1, number) for number in range(SCENES)]
    choice = create_region_choice(**TAUGHT_CHOICE)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.01, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(0)
    with looking_at(model.train(), choice), far_apart(model, REGION_SIZE, generator) as apart:
        apart.distance = BETWEEN
        for step in range(steps):
            some: list[KeyScene] = [
                scenes[int(n)] for n in torch.randint(len(scenes), (IMAGES,), generator=generator)
            ]
            loss = model.loss([scene.image() for scene in some], [scene.points() for scene in some])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            if step % 10 == 9:
                print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    model.eval().save(folder / "taught.safetensors", whole=True)
    counted = {least: PointScores(distance=DISTANCE, threshold=least) for least in THRESHOLDS}
    with looking_at(model, choice):
        for number in range(8):
            scene = key_scene(TAUGHT, "train", FIRST_SEED, 2, number, clutter="choosing")
            found, true = found_points(model, scene), scene.points()
            for counter in counted.values():
                counter.update(found, true)
    f1 = {least: float(counter.compute()["f1"].nan_to_num(0.0)) for least, counter in counted.items()}
    best = max(f1, key=lambda least: f1[least])
    print(f"taught: F1 {f1[best]:.3f} at {best}", flush=True)
    return best


def summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each way to look: means over the images."""
    found = []
    possible = -(-rows[0]["height"] // REGION_SIZE) * -(-rows[0]["width"] // REGION_SIZE)
    for name in dict.fromkeys(row["looked_at"] for row in rows):
        some = [row for row in rows if row["looked_at"] == name]
        mean = {key: float(np.mean([row[key] for row in some])) for key in ("f1", "regions", "cpu_seconds")}
        found.append(
            {
                "looked_at": name,
                "images": len(some),
                "f1": mean["f1"],
                "least_f1": min(row["f1"] for row in some),
                "chance": some[0]["chance"],
                "share": mean["regions"] / possible,
                "cpu_seconds": mean["cpu_seconds"],
                "peak_mb": max(row["peak_bytes"] for row in some) / 1e6,
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
