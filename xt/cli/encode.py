"""`xt encode CHECKPOINT_OR_CONFIG IMAGES_OR_TABLE... --out STORE.zarr`: all regions encoded, once."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.progress import ProgressBars
from xt.errors import ConfigError, OutputError, XTError
from xt.images.bands import ALPHAS
from xt.progress import Bar
from xt.recipes import is_configuration

if TYPE_CHECKING:
    from xt.config.run import RunConfig
    from xt.data.feature_store import FeatureStore
    from xt.model.xt import XT

EXAMPLES = (
    "xt encode runs/first slides.csv --out slides.zarr",
    "xt encode runs/first 'new/*.tif' --out new.zarr --dtype float32",
)
_TABLES = (".csv", ".tsv", ".parquet", ".pq")
# Of many images, those of fewer regions pass too fast for a progress bar of their own.
_WORTH_A_BAR = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="CHECKPOINT_OR_CONFIG",
        help="whose region encoder: a model.safetensors, a run folder, a .ckpt, a recipe or a configuration",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGES_OR_TABLE",
        help="images, folders, quoted globs, or tables (.csv, .tsv, .parquet); with a configuration: its own images "
        "if left out",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="STORE.zarr", help="where the features go; made if missing"
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), help="of what is stored (default: float16, three digits)"
    )
    parser.add_argument(
        "--views", type=int, choices=(1, 4, 8), metavar="N",
        help="1: each image as it is (default); 4: also flipped; 8: also turned; for training with such augmentation",
    )  # fmt: skip
    parser.add_argument("--image-column", help="column of the image paths in tables (default: image)")
    parser.add_argument("--root", help="folder that relative image paths in tables start from")
    parser.add_argument("--nodata", type=float, help="pixel value that means 'nothing here'")
    parser.add_argument(
        "--alpha", choices=ALPHAS,
        help="what a band is that a file calls alpha: says what is missing (validity), or a channel like others",
    )  # fmt: skip
    parser.add_argument(
        "--microns-per-pixel", type=float, metavar="SIZE",
        help="resolution of slides whose files do not say it, nor a table's column microns_per_pixel",
    )  # fmt: skip
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.epilog = (
        "The store is for `xt train CONFIG --data.tokens=STORE.zarr`, which then reads no pixels. A second run "
        "goes on where the first ended, and encodes changed files again. Exit status: 0 all done, 1 some images "
        "failed (listed at the end), 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.data.encoding import open_for_encoding
    from xt.prediction.predictor import choose_device

    device = choose_device(arguments.device)
    config, trained = _source(arguments)
    images = _images(arguments, config)
    with ProgressBars() as bars:
        model = trained or _untrained(config, images, bars)
        model.to(device).eval()
        if arguments.region_batch is not None:
            model.streaming = replace(model.streaming, region_batch=arguments.region_batch)
        with open_for_encoding(
            arguments.out,
            model,
            dtype=arguments.dtype,
            views=arguments.views,
            nodata=config.data.nodata,
            alpha=config.data.alpha,
        ) as store:
            todo = {path: microns for path, microns in images.items() if path not in store}
            failed = _encode_all(store, model, todo, bars)
    _report(len(images), len(todo), failed, arguments.out)
    return 1 if failed else 0


def _source(arguments: argparse.Namespace) -> "tuple[RunConfig, XT | None]":
    """How a run reads its images, with what the command line changes of it; and its model if it was trained."""
    from xt.config.parser import load_config
    from xt.config.run import RunConfig

    path, model, config = Path(arguments.source), None, None
    if is_configuration(arguments.source):
        config = load_config(arguments.source)
    else:
        from xt.training.checkpoints import load_trained

        model, config = load_trained(path)
        config = config or RunConfig(model=model.config)
    if not arguments.images and config.data.table is None and config.data.folder is None:
        raise ConfigError(
            f"{path} does not say which images to encode: name files, folders or a table after it"
        )
    given = {
        "nodata": arguments.nodata,
        "alpha": arguments.alpha,
        "image_column": arguments.image_column,
        "root": arguments.root,
    }
    data = replace(
        config.data, **{name: value for name, value in given.items() if value is not None}, tokens=None
    )
    return replace(config, data=data), model


def _images(arguments: argparse.Namespace, config: "RunConfig") -> dict[str, float | None]:
    """Every image once, with its resolution for files that do not say; what is no image or table is told at once, what
    is damaged only when its turn comes."""
    from xt.data.table_files import read_image_paths, read_microns
    from xt.images.resolution import check_microns
    from xt.prediction.inputs import find_images, identity

    usual = arguments.microns_per_pixel
    check_microns(usual)
    if not arguments.images:
        from xt.training.tables import load_table

        table = load_table(config.data, config.model.head)
        table.check_files()
        known = {str(path): table.microns_of(place) for place, path in enumerate(table.paths)}
        return {path: microns or usual for path, microns in known.items()}
    found: dict[str, tuple[str, float | None]] = {}
    for entry in arguments.images:
        if Path(entry).suffix.lower() in _TABLES:
            table_paths = read_image_paths(entry, config.data.image_column, arguments.root)
            paths = [str(path) for path in table_paths]
            microns = read_microns(entry, config.data.microns_column) or (None,) * len(paths)
        else:
            paths = find_images([entry], without=arguments.out)
            microns = (None,) * len(paths)
        for path, size in zip(paths, microns, strict=True):
            found.setdefault(identity(path), (path, size or usual))
    return dict(found.values())


def _untrained(config: "RunConfig", images: dict[str, float | None], bars: ProgressBars) -> "XT":
    """The model that `xt train` would start with."""
    import numpy as np
    import torch

    from xt.labels.image_table import ImageTable
    from xt.training.preparation import prepare_model, resolve_classes
    from xt.training.stages import StageBars
    from xt.training.tables import load_splits

    torch.manual_seed(config.train.seed)
    if config.data.table is not None or config.data.folder is not None:
        # Pixels are measured on the training images, as `xt train` does.
        table = load_splits(config.data, config.model.head).train
        config = resolve_classes(config, table)
    else:
        paths = tuple(Path(path) for path in images)
        table = ImageTable(
            "the images given", paths, np.zeros(len(paths)), (), microns_per_pixel=tuple(images.values())
        )
    return prepare_model(config, table, StageBars(bars))[0]


def _encode_all(
    store: "FeatureStore", model: "XT", images: dict[str, float | None], bars: ProgressBars
) -> dict[str, str]:
    """The images that failed, with the reason."""
    from xt.data.encoding import encode_image

    failed: dict[str, str] = {}
    overall = bars.add("all", total=len(images), unit="images") if len(images) > 1 else None
    for path, microns in images.items():
        bar = _RegionsBar(bars, Path(path).name, least=0 if overall is None else _WORTH_A_BAR)
        try:
            encode_image(store, model, path, bar.update, microns)
        except OutputError:
            # The next image would meet the same full disk.
            raise
        except Exception as error:
            # One broken image, however it is broken, does not stop the others.
            failed[path] = str(error) if isinstance(error, XTError) else f"{type(error).__name__}: {error}"
            bars.print(f"failed: {path}")
        finally:
            bar.remove()
        if overall is not None:
            overall.advance()
    return failed


class _RegionsBar:
    """How far one image is, if it has so many regions that people wait for it."""

    def __init__(self, bars: ProgressBars, name: str, least: int) -> None:
        self.bars, self.name, self.least = bars, name, least
        self.bar: Bar | None = None

    def update(self, done: int, total: int) -> None:
        if self.bar is None and total > self.least:
            self.bar = self.bars.add(self.name, total=total, unit="regions")
        if self.bar is not None:
            self.bar.update(done, total)

    def remove(self) -> None:
        if self.bar is not None:
            self.bar.remove()


def _report(num_images: int, num_todo: int, failed: dict[str, str], store: Path) -> None:
    done, earlier = num_todo - len(failed), num_images - num_todo
    parts = [f"{done} encoded"] if done or not earlier else []
    parts += [f"{earlier} done before"] if earlier else []
    parts += [f"{len(failed)} failed"] if failed else []
    print(f"{num_images} image{'s' if num_images != 1 else ''}: {', '.join(parts)}")
    print(f"store: {store}")
    for path, reason in failed.items():
        # A reason usually names its file.
        print(f"failed: {reason}" if path in reason else f"failed: {path}: {reason}", file=sys.stderr)
