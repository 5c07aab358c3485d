"""Down-sampling, cropping and xT on the same images, with the same region encoder and the same budget.

    downsample   the whole image averaged down to one region
    crop         one random crop of the size of a region a step; evaluated on the centre crop, or on several
    xt           the whole image at full resolution

Each contestant runs in a process of its own, so that its peak memory is its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xt import errors
from xt.config.parser import config_to_yaml
from xt.config.run import RunConfig
from xt.errors import ConfigError, XTError
from xt.output import check_writable_folder, write_atomically
from xt.tasks import task_of
from xt.training.callbacks import write_curves
from xt.training.fold_files import DIVISION
from xt.training.preparation import LAST
from xt.training.tables import load_splits

Progress = Callable[[str, str, int, int, dict[str, float]], None]
"""Called as (contestant, what, done, total, values)."""

_VIEWS = {"downsample": "downsample", "crop": "crop", "xt": "whole"}
# As good as for ever: with a budget of seconds the clock ends the run.
_ENDLESS = 1_000_000


def compare(config: RunConfig, out: str | Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train and evaluate every contestant; the results, which are also written to `results.json`.

    Returns:
        for each contestant `score` (of the metric `metric`), for classes also `accuracy` and its 95 %
        `accuracy_interval`, `peak_bytes` (of the process), `peak_device_bytes`, `seconds` (all in all),
        `cpu_seconds` (of processors, beginning with the imports), `training_seconds`, `epochs`, `images`; and
        `budget`, `metric`, `split`.
        Each contestant's run folder is `out/NAME`, its test predictions lie in `out/NAME/test`, its curves in
        `out/NAME.csv`. With `train.folds` it is a folder of folds, `score` is their mean, with `std`, `folds` (each
        alone), and `out_of_fold` with `interval`: over all images, each by a model that has not seen it.
    Raises:
        TableError: there are no test images.
        OutputError: the folder holds a comparison already.
        ConfigError: the model answers about every place.
        XTError: what a contestant raised.
    """
    if task_of(config.model.head).about_places:
        raise ConfigError(
            f"model.head is {config.model.head!r}, but a down-sampled image or a crop has no answer about every place: "
            "`xt compare` compares answers about whole images"
        )
    out = check_writable_folder(out)
    folds = config.train.all_folds
    splits = load_splits(config.data, config.labels, config.model, fold=folds[0] if folds else None)
    if splits.test is None:
        raise errors.TableError(
            f"{config.data.place} has no test images to compare on; add rows with the split "
            f"{config.data.split_names[2]!r}, or set data.test_fraction"
        )
    for name in config.compare.contestants:
        if (out / name / LAST).exists() or (out / name / DIVISION).exists():
            raise errors.OutputError(
                f"{out / name} holds a run of an earlier comparison; remove it, or choose another folder "
                "with train.out"
            )
    how = f"by folds: {len(folds)}, the same for all" if folds else splits.how
    results: dict[str, Any] = {"budget": budget_in_words(config), "split": how}
    for name in config.compare.contestants:
        found = _run(name, contestant_config(config, name, out), out, progress)
        results["metric"] = found.pop("metric")
        if not folds:
            write_curves(out / f"{name}.csv", found.pop("curves"))
        results[name] = found
    write_atomically(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def contestant_config(config: RunConfig, name: str, out: Path) -> RunConfig:
    """The configuration of one contestant: the same but for what of an image it is given, and the run
    folder."""
    if name not in _VIEWS:
        raise ConfigError(f"unknown contestant {name!r}; there are {', '.join(_VIEWS)}")
    train = replace(config.train, out=str(out / name), resume="none")
    if config.compare.budget == "seconds":
        train = replace(train, epochs=_ENDLESS, max_seconds=config.compare.seconds)
    view = _VIEWS[name]
    augmentation = config.data.augmentation
    if view != "whole":
        # The baselines' views are one region already.
        augmentation = replace(augmentation, train_size=None)
    data = replace(config.data, view=view, augmentation=augmentation)  # type: ignore[arg-type]
    model = config.model
    if view == "downsample":
        model = replace(model, microns_per_pixel=None, map_units_per_pixel=None)
    return replace(config, model=model, train=train, data=data)


def budget_in_words(config: RunConfig) -> str:
    """What every contestant is given alike."""
    if config.compare.budget == "seconds":
        return f"{config.compare.seconds:g} seconds of training each"
    passes = config.train.epochs
    return f"{passes} pass{'es' if passes != 1 else ''} over the training images each"


def rules_in_words(config: RunConfig) -> list[str]:
    """What the contestants are given of an image, for the reader of the table."""
    crops = config.data.crops
    evaluated = "on its centre crop" if crops == 1 else f"by the mean over {crops} x {crops} crops"
    texts = {
        "downsample": "downsample: the whole image averaged down to one region",
        "crop": f"crop: one random crop of a region's size a step; an image is evaluated {evaluated}",
        "xt": "xt: the whole image at full resolution",
    }
    return [texts[name] for name in config.compare.contestants]


def _run(name: str, config: RunConfig, out: Path, progress: Progress | None) -> dict[str, Any]:
    check_writable_folder(out / name)
    path = out / name / "contestant.yaml"
    write_atomically(path, config_to_yaml(config))
    command = [sys.executable, "-m", "xt.training.contestant", str(path)]
    outcome: Mapping[str, Any] = {}
    log = out / name / "log.txt"
    with (
        log.open("w") as errors_to,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors_to, text=True, env=_environment()
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                message = _message(line)
                if "progress" in message and progress is not None:
                    progress(name, *message["progress"])
                elif "result" in message or "error" in message:
                    outcome = message
        except BaseException:
            process.kill()
            raise
    if "error" in outcome:
        kind = getattr(errors, outcome["error"]["kind"], XTError)
        raise kind(f"{name}: {outcome['error']['message']}")
    if "result" not in outcome:
        tail = " ".join(log.read_text().splitlines()[-1:])
        raise XTError(f"the contestant {name} ended with status {process.returncode}; see {log} ({tail})")
    return dict(outcome["result"])


def _message(line: str) -> Mapping[str, Any]:
    # Libraries may print, too.
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
