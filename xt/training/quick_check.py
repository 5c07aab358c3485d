"""What a run looks at by itself before its first step: headers, labels, parts of masks; `xt check` looks at all."""

from xt.config.run import RunConfig
from xt.data.dataset import Reading
from xt.data.dense_dataset import check_labelled, warn_of_crowded_images
from xt.data.dense_table import DENSE_TASKS
from xt.data.seen_classes import check_answers, check_masks, warn_of_spellings, warn_of_unseen
from xt.data.splits import Splits
from xt.errors import TableError
from xt.training.callbacks import Report
from xt.training.resolutions import check_resolutions

_UNKNOWN = 255


def quick_check(config: RunConfig, splits: Splits, how: Reading, report: Report | None = None) -> None:
    """Open every image with its labels; refuse what cannot be learned from, say what is probably not meant.

    Raises:
        XTError: an image or its labels cannot be used; the first is named.
    """
    model = config.model
    check_resolutions((splits.train, splits.validation, splits.test), model, config.data, report)
    if model.head != "regression":
        warn_of_spellings(splits.train)
    if model.head not in DENSE_TASKS:
        check_answers(splits.train, model.head)
        return
    check_labels(
        splits,
        how,
        report,
        on_map=model.head == "points" and config.evaluation.distance_unit == "map",
        most=config.evaluation.max_detections[-1],
        ignore_index=ignore_index(config),
    )


def ignore_index(config: RunConfig) -> int:
    """The class number of mask pixels that nothing is said about."""
    return int(config.model.head_options.get("ignore_index", _UNKNOWN))


def check_labels(
    splits: Splits,
    how: Reading,
    report: Report | None,
    *,
    on_map: bool = False,
    most: int | None = None,
    ignore_index: int = 255,
) -> None:
    """Refuse labels that are not of their images, and say which classes are never shown, before anything is computed.

    Args:
        ignore_index: of masks, where nothing is known.
        on_map: whether distances are going to be measured in map units.
        most: boxes of an image that are going to count; a warning says where there are more objects.
    Raises:
        TableError: labels do not fit, or there is not one point or box to learn from, or to choose an epoch by.
        ConfigError: distances on the map are wanted, and an image lies on none.
    """
    progress = None if report is None else lambda done, total: report("check labels", done, total, {})
    parts = {
        "training": (splits.train, "to learn from"),
        "validation": (splits.validation, "by which the best epoch could be chosen"),
        "test": (splits.test, ""),
    }
    for name, (part, purpose) in parts.items():
        if part is None:
            continue
        found = check_labelled(part, how, progress, on_map=on_map and name != "training")
        if found is None:
            check_masks(part, how, ignore_index, training=name == "training", progress=progress)
            continue
        if not found.any() and purpose:
            raise TableError(
                f"{part.source}: none of the {len(part)} {name} images has a labelled object {purpose}; label some, or "
                f"divide the images otherwise than {splits.how}"
            )
        if name == "training":
            warn_of_unseen(part, found)
        if most is not None and name != "training":
            warn_of_crowded_images(part, most)
