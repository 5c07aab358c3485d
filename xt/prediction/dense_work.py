"""What is done with one image where the model answers for every place: segmentations, points and boxes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xt.config.predict import PredictConfig
from xt.errors import ConfigError, OptionError
from xt.images import stack_parts
from xt.prediction.given import LOOKED_AT
from xt.prediction.image_work import ImageWork, Opener, Results
from xt.prediction.inputs import image_name
from xt.prediction.looked import looked_columns
from xt.progress import Progress, Stages

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT
    from xt.prediction.dense_predictor import DensePredictor
    from xt.results.seen_regions import SeenRegions
    from xt.tasks.base import Task
    from xt.tasks.place_results import DenseOptions, DenseResult

# Of predictions.csv, behind what is counted.
_LEFT_OUT = "_left_out"


class DenseOpener(Opener):
    """Of xView3's files -32768 is nodata, whatever they say; detectors get grey images coloured, as there are some
    among COCO's."""

    @contextmanager
    def __call__(self, path: str) -> Iterator["LargeImage"]:
        from xt.tasks import task_of

        model = self.trained.model.config
        with super().__call__(path) as image:
            yield task_of(model.head).as_taken(image, model.in_channels)

    def nodata(self, path: str) -> float | None:
        from xt.data.xview3 import CHANNELS, NODATA

        is_scene = {image_name(part) for part in stack_parts(path)} <= set(CHANNELS.values())
        return NODATA if is_scene else super().nodata(path)


class DenseWork(ImageWork):
    """Predicts an image and writes its files; one of many regions in bands."""

    def __init__(self, predictor: "DensePredictor", opened: DenseOpener) -> None:
        self.predictor = predictor
        self.opened = opened
        self.options = dense_options(predictor.model, opened.config)

    def predict(self, path: str, results: Results, progress: Progress, *, is_cut: bool = False) -> None:
        destination, task = results.path(path, ""), self.predictor.task
        # What the bands of this run have begun is not begun anew.
        options = replace(self.options, restart=False) if is_cut else self.options
        with Stages(progress, f"{destination.name}: ") as report, self.opened(path) as image:
            given = self.opened.source(path)
            result = self.predictor.predict(image, destination, options, report, given=given)
            looked = self._looked(result, image)
            result = replace(result, looked=looked)
            endings = {what: task.endings[what] for what in result.files}
            if self.opened.config.overlay:
                endings["overlay"] = ".overlay.png"
                task.draw(result, image, results.path(path, endings["overlay"]), destination.name)
            if looked is not None and looked.is_chosen:
                from xt.results.seen_regions import write_seen_regions

                endings["regions_looked_at"] = LOOKED_AT
                write_seen_regions(looked, image, results.path(path, LOOKED_AT))
            height, width = image.shape
            counts = {f"{task.unit}({name})": count for name, count in result.counts.items()}
            if task.least_score is not None:
                counts[f"{task.unit}{_LEFT_OUT}"] = result.left_out
            values: dict[str, object] = {"height": height, "width": width, **counts}
            values |= looked_columns(
                [] if looked is None else [looked], self.predictor.budgets, result.reached
            )
            results.add(path, endings, values, self.opened.settings(path))

    def _looked(self, result: "DenseResult", image: "LargeImage") -> "SeenRegions | None":
        """What was decoded, where that was not everything at full resolution."""
        from xt.regions.pyramid_grid import PyramidGrid
        from xt.results.seen_regions import seen_regions

        if not isinstance(result.regions, PyramidGrid):
            return None
        return seen_regions(result.regions, None, self.predictor.model.as_read(image).step)

    def cut(self, path: str, results: Results, progress: Progress) -> tuple[tuple[int, int], ...]:
        destination, most = results.path(path, ""), self.opened.config.band_regions
        with Stages(progress, f"{destination.name}: ") as report, self.opened(path) as image:
            bands = self.predictor.cut(image, destination, most, self.options, report, given=path)
        return tuple((band.first, band.stop) for band in bands)

    def predict_band(self, path: str, band: tuple[int, int], results: Results, progress: Progress) -> None:
        from xt.prediction.bands import Band

        destination, options = results.path(path, ""), replace(self.options, restart=False)
        with Stages(progress, f"{destination.name}: ") as report, self.opened(path) as image:
            self.predictor.predict_band(image, destination, Band(*band), options, report, given=path)


def check_options(config: PredictConfig, head: str) -> None:
    """Refuse options that mean nothing for a model with this head.

    Raises:
        OptionError: names the option.
    """
    from xt.tasks import task_of, tasks_by_option

    task = task_of(head)
    own = task.options
    for form in config.also:
        _check_form(form, task, config)
    for name, tasks in tasks_by_option().items():
        if name not in own and getattr(config, name) not in (None, False):
            raise OptionError(f"<{name}> is for {' and '.join(tasks)}, but this model's head is {head!r}")


def _check_form(form: str, task: "Task", config: PredictConfig) -> None:
    """Refuse a further form of results that there is not, or that this task or these options do not have."""
    from xt.tasks import TASKS

    having = [name for name, one in TASKS.items() if form in one.also]
    if not having:
        known = dict.fromkeys(name for one in TASKS.values() for name in one.also)
        raise OptionError(f"<also> must be of {', '.join(known)}, got {form!r}")
    if form not in task.also:
        raise OptionError(
            f"<also> {form} is for {' and '.join(having)}, but this model's head is {task.name!r}"
        )
    needed = task.also[form].split()
    if needed and not any(getattr(config, name) not in (None, False) for name in needed):
        options = " or ".join(f"<{name}>" for name in needed)
        raise OptionError(f"<also> {form} is another form of what {options} asks for: give that, too")


def dense_options(model: "XT", config: PredictConfig) -> "DenseOptions":
    """What to write.

    Raises:
        ConfigError: a value is out of range, or there is no such class.
    """
    from xt.prediction.predictor import class_names
    from xt.tasks.place_results import DenseOptions

    names = class_names(model)
    labels: tuple[int, ...] = ()
    if config.outlines is not None:
        unknown = [name for name in config.outlines if name not in names]
        if unknown:
            raise ConfigError(
                f"there is no class {unknown[0]!r} to outline; the classes are {', '.join(names)}"
            )
        labels = tuple(names.index(name) for name in config.outlines) or tuple(range(1, len(names)))
    return DenseOptions(
        probabilities=config.probabilities,
        outlines=labels,
        least_area=1 if config.least_area is None else config.least_area,
        merge_radius=config.merge_radius,
        merge_iou=config.merge_iou,
        least_score=config.chosen_least_score,
        also=config.also,
        restart=config.restart or config.overwrite,
    )


def left_out(rows: Iterable[Mapping[str, Any]], config: PredictConfig) -> str | None:
    """What the results of these rows of predictions.csv lack for its low score, as a sentence; None for nothing."""
    from xt.tasks import TASKS

    rows = list(rows)
    for task in TASKS.values():
        if task.results is None or task.results.least_score is None:
            continue
        unit = task.results.unit
        count = sum(int(row.get(f"{unit}{_LEFT_OUT}", 0)) for row in rows)
        if not count:
            continue
        written = sum(int(row[name]) for row in rows for name in row if name.startswith(f"{unit}("))
        least = task.results.least_score if config.least_score is None else config.least_score
        which = (
            f"{unit} with a score below {least:g}"
            if written
            else f"all {unit}, none has a score of {least:g}"
        )
        return f"left out: {which}; {count:,} before those of one object are merged, --least-score 0 writes them too"
    return None
