"""Tasks with answers about every place of an image: what masks, points and boxes have in common."""

from xt.tasks.base import Task


class PlaceTask(Task):
    """Answers about every place, decoded region by region."""
