"""Trains for an epoch in two processes; the first prints what validation found, and what one process finds of the same
weights."""

import json
import sys
from contextlib import closing
from pathlib import Path

import torch

from tests.training.dense_toy import dense_config
from tests.training.toy import toy_config
from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.heads import DenseHead
from xt.training.run import RunResult, train
from xt.training.tables import load_table


def main(table: str, out: str, head: str) -> None:
    torch.set_num_threads(1)
    settings = {"epochs": 1, "devices": 2, "strategy": "ddp", "batch_size": 1}
    sections = {"evaluation": {"distance": 30.0}} if head == "points" else {}
    config = (
        toy_config(Path(table), Path(out), train=settings)
        if head == "classification"
        else dense_config(Path(table), Path(out), head, train=settings, **sections)
    )
    result = train(config, evaluate_test=False)
    if not result.is_main:
        return
    shared = {
        name.removeprefix("val/"): value
        for name, value in result.curves[-1].items()
        if name.startswith("val/")
    }
    alone = dict(result.metrics["validation"])
    if isinstance(result.model.head, DenseHead):
        alone["loss"] = mean_loss(result)
    print(json.dumps({"shared": shared, "alone": alone}))


def mean_loss(result: RunResult) -> float:
    """Of the validation images, by the model's own loss."""
    config, model = result.config, result.model.eval()
    images = load_table(config.data, config.labels, config.model, config.model.class_names).split("val")
    losses = []
    for place in range(len(images)):
        with closing(open_labelled(images, place, Reading(region_size=64))) as pair, torch.no_grad():
            losses.append(model.loss([pair.image], [pair.target]).item())
    return sum(losses) / len(losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
