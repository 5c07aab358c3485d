"""Trains masks or points for an epoch in several processes; the first prints what validation found, and what one
process finds of the same weights."""

import json
import sys
from contextlib import closing
from pathlib import Path

import torch

from tests.training.dense_toy import dense_config
from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.training.preparation import load_table
from xt.training.run import train


def main(table: str, out: str, head: str) -> None:
    torch.set_num_threads(1)
    settings = {"epochs": 1, "devices": 2, "strategy": "ddp", "batch_size": 1}
    result = train(
        dense_config(Path(table), Path(out), head, train=settings, evaluation={"distance": 30.0}),
        evaluate_test=False,
    )
    if not result.is_main:
        return
    config, model = result.config, result.model.eval()
    images = load_table(config.data, head, config.model.class_names, config.model).split("val")
    losses = []
    for place in range(len(images)):
        with closing(open_labelled(images, place, Reading(region_size=64))) as pair, torch.no_grad():
            losses.append(model.loss([pair.image], [pair.target]).item())
    shared = {
        name.removeprefix("val/"): value
        for name, value in result.curves[-1].items()
        if name.startswith("val/")
    }
    alone = {**result.metrics["validation"], "loss": sum(losses) / len(losses), "losses": losses}
    print(json.dumps({"shared": shared, "alone": alone}))


if __name__ == "__main__":
    main(*sys.argv[1:])
