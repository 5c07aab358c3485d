"""How well boxes are found: MS-COCO's average precision and recall, computed by pycocotools."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from xt.errors import ConfigError, MissingPackageError, ShapeError
from xt.labels.box_table import BoxTable
from xt.metrics.box_parts import divided
from xt.metrics.segmentation import class_names_of

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

# Columns of what is held of each box; those of true ones have crowd and area besides.
_IMAGE, _LABEL, _SCORE, _EDGES, _CROWD, _AREA = 0, 1, 2, slice(3, 7), 7, 8
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


class BoxScores(Metric):
    """The twelve numbers of MS-COCO over all images together.

        scores = BoxScores(2, class_names=["tree", "shrub"])
        scores.update(found, true)
        scores.compute()["ap50"]

    `ap`: the mean of the precisions at 101 recalls, at IoUs from 0.5 to 0.95 in steps of 0.05 and over the classes;
    `ap50`, `ap75` at one IoU; `ap_small`, `ap_medium`, `ap_large` of objects with an area below 32 x 32 pixels, up to
    96 x 96 and above. `ar_1`, `ar_10`, `ar_100` (by `max_detections`): the highest recall, averaged likewise, with so
    many boxes of an image and class; `ar_small`, `ar_medium`, `ar_large` with the last of these. And `ap(NAME)` of each
    class. Boxes around crowds are neither missed nor is what lies in them wrong. Source:
    https://cocodataset.org/#detection-eval, whose own program computes them.

    A torchmetrics metric: the processes of a distributed run put together what each has seen.

    Args:
        num_classes: K.
        max_detections: three rising caps on the boxes of an image and class.
        class_names: K names; their numbers without.
        sync: whether processes put together; False where one process alone has seen everything.
    Raises:
        ConfigError: another number of names, or caps that do not rise.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    found: list[Tensor]
    true: list[Tensor]

    def __init__(
        self,
        num_classes: int,
        *,
        max_detections: Sequence[int] = (1, 10, 100),
        class_names: Sequence[str] | None = None,
        sync: bool = True,
    ) -> None:
        super().__init__(sync_on_compute=sync)
        caps = tuple(int(cap) for cap in max_detections)
        if len(caps) != 3 or not 1 <= caps[0] < caps[1] < caps[2]:
            raise ConfigError(f"max_detections must be three rising numbers from 1 on, got {caps}")
        self.num_classes = num_classes
        self.max_detections = caps
        self.class_names = class_names_of(num_classes, class_names)
        self.add_state("found", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")
        self._images = 0

    def update(self, found: BoxTable, true: BoxTable) -> None:
        """Take in one image.

        Args:
            found: boxes with scores.
            true: all boxes that there are; their scores have no part.
        Raises:
            ShapeError: a box is of a class that there is not.
        """
        for table in (found, true):
            if len(table) and not (table.labels.min() >= 0 and table.labels.max() < self.num_classes):
                raise ShapeError(
                    f"boxes of the classes {int(table.labels.min())} to {int(table.labels.max())} came, there are the "
                    f"classes 0 to {self.num_classes - 1}"
                )
        number = self._next_image()
        for rows, state in ((_rows(found, number), self.found), (_rows(true, number), self.true)):
            # Apple's GPUs have no double precision.
            state.append(torch.from_numpy(rows).to("cpu" if self.device.type == "mps" else self.device))

    def compute(self) -> dict[str, float]:
        """Numbers in [0, 1]; NaN where there was no such object."""
        return coco_numbers(
            _together(self.found), _together(self.true), self.class_names, self.max_detections
        )

    def _next_image(self) -> int:
        """A number that no other image has, in whichever process; it goes on after a reset, for `merge_state`."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, processes = (
            (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        )
        self._images += 1
        return (self._images - 1) * processes + rank


def coco_numbers(
    found: NDArray[np.float64],
    true: NDArray[np.float64],
    class_names: Sequence[str],
    max_detections: tuple[int, ...],
) -> dict[str, float]:
    """See `BoxScores`.

    Args:
        found, true: (N, 9) image, label, score, y0, x0, y1, x1, crowd, area each.
    """
    # Of a class without a true box nothing can be said: it has no part in any mean, and takes as much time as others.
    classes = np.unique(true[:, _LABEL])
    found = found[np.isin(found[:, _LABEL], classes)]
    precision, recalls = _curves(found, true, classes, max_detections)
    last = recalls[-1]
    numbers = {
        "ap": _mean(precision[:, :, :, _ALL]),
        "ap50": _mean(precision[0, :, :, _ALL]),
        "ap75": _mean(precision[5, :, :, _ALL]),
        "ap_small": _mean(precision[:, :, :, _SMALL]),
        "ap_medium": _mean(precision[:, :, :, _MEDIUM]),
        "ap_large": _mean(precision[:, :, :, _LARGE]),
        **{
            f"ar_{cap}": _mean(recall[:, :, _ALL])
            for cap, recall in zip(max_detections, recalls, strict=True)
        },
        "ar_small": _mean(last[:, :, _SMALL]),
        "ar_medium": _mean(last[:, :, _MEDIUM]),
        "ar_large": _mean(last[:, :, _LARGE]),
    }
    if len(class_names) > 1:
        numbers |= {f"ap({name})": float("nan") for name in class_names}
        for place, label in enumerate(classes.astype(int).tolist()):
            numbers[f"ap({class_names[label]})"] = _mean(precision[:, :, place, _ALL])
    return numbers


def _curves(
    found: NDArray[np.float64], true: NDArray[np.float64], classes: NDArray[np.float64], caps: tuple[int, ...]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Precision (IoUs, recalls, classes, areas) with the last cap, and recall (IoUs, classes, areas) with each.

    An image of so many boxes that comparing each with each would take minutes is divided into parts that have nothing
    to do with each other, once the caps are applied to the whole of it.
    """
    parts = divided(found, true)
    if parts is None:
        result = _evaluated(found, true, classes, caps).eval
        return result["precision"][..., -1], [result["recall"][..., place] for place in range(len(caps))]
    recalls = []
    for cap in caps:
        kept = _best(found, cap)
        pieces = divided(kept, true) or (kept, true)
        result = _evaluated(*pieces, classes, (max(len(kept), 1),)).eval
        recalls.append(result["recall"][..., 0])
    return result["precision"][..., 0], recalls


def _best(found: NDArray[np.float64], cap: int) -> NDArray[np.float64]:
    """Of each image and class those of the highest scores, the first of equal ones, in the order given."""
    order = np.lexsort((-found[:, _SCORE], found[:, _LABEL], found[:, _IMAGE]))
    rows = found[order]
    starts = np.ones(len(rows), bool)
    starts[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))
    return found[np.sort(order[np.arange(len(rows)) - first < cap])]


def _evaluated(
    found: NDArray[np.float64], true: NDArray[np.float64], classes: NDArray[np.float64], caps: Sequence[int]
) -> "COCOeval":
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingPackageError(
            f"boxes are measured by pycocotools, which is not installed ({error}): pip install pycocotools"
        ) from None
    images = np.unique(np.concatenate([found[:, _IMAGE], true[:, _IMAGE]])).astype(int).tolist()
    listed = {
        "images": [{"id": number} for number in images],
        "categories": [{"id": number, "name": str(number)} for number in classes.astype(int).tolist()],
    }
    # It tells the terminal what it does.
    with redirect_stdout(io.StringIO()):
        truth, results = COCO(), COCO()
        truth.dataset = {**listed, "annotations": _annotations(true)}
        results.dataset = {**listed, "annotations": _annotations(found)}
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.maxDets = list(caps)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _annotations(rows: NDArray[np.float64]) -> list[dict[str, Any]]:
    y0, x0, y1, x1 = rows[:, _EDGES].T
    boxes = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist()
    return [
        {
            "id": number, "image_id": int(row[_IMAGE]), "category_id": int(row[_LABEL]), "bbox": box,
            "score": float(row[_SCORE]), "iscrowd": int(row[_CROWD]), "area": float(row[_AREA]),
        }
        # From 1 on: it takes 0 for "no partner".
        for number, (row, box) in enumerate(zip(rows, boxes, strict=True), start=1)
    ]  # fmt: skip


def _rows(table: BoxTable, image: int) -> NDArray[np.float64]:
    columns = [
        np.full(len(table), image),
        table.labels,
        table.scores,
        *table.edges.T,
        table.crowd,
        table.areas,
    ]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _together(state: list[Tensor] | Tensor) -> NDArray[np.float64]:
    """(N, 9), whether the processes have been put together or not."""
    parts = [state] if isinstance(state, Tensor) else state
    rows = torch.cat(list(parts)) if len(parts) else torch.zeros(0, _AREA + 1)
    result: NDArray[np.float64] = rows.double().cpu().numpy()
    return result


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")
