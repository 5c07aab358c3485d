"""What a run looks at by itself before its first step: headers, labels, parts of masks; `xt check` looks at all."""

from xt.config.run import RunConfig
from xt.data.dataset import Reading
from xt.data.splits import Splits
from xt.tasks import task_of
from xt.tasks.base import Report
from xt.training.resolutions import check_resolutions


def quick_check(config: RunConfig, splits: Splits, how: Reading, report: Report | None = None) -> None:
    """Open every image with its labels; refuse what cannot be learned from, say what is probably not meant.

    Raises:
        XTError: an image or its labels cannot be used; the first is named.
    """
    check_resolutions((splits.train, splits.validation, splits.test), config.model, config.data, report)
    task_of(config.model.head).check(splits, how, config.evaluation, config.model, report)
