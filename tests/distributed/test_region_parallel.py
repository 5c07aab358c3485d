"""Regions shared out over processes (gloo, on the CPU) against one process, in float64."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.processes import run_forked
from tests.distributed.region_parallel_worker import CASES
from tests.model.test_dense import make_image, make_model
from xt.model.region_pass import RegionPass
from xt.streaming.parallel import Share, agree, share_of


def found(tmp_path: Path, processes: int, region_ranks: int, names: list[str]) -> dict[str, Any]:
    out = tmp_path / "found.json"
    worker = ("-m", "tests.distributed.region_parallel_worker", str(region_ranks), str(out), *names)
    run_forked(processes, *worker)
    result: dict[str, Any] = json.loads(out.read_text())
    assert list(result) == names
    return result


def test_two_processes(tmp_path: Path) -> None:
    # Of an image of one region the second process has nothing to do.
    some = [
        "classification",
        "segmentation_maps",
        # What a rank's own regions say alone is not what opening was worth.
        "segmentation_by_model",
        "detection",
        "classification_few_regions",
        "detection_few_regions",
    ]
    result = found(tmp_path, 2, 2, [*some, "answers", "refusals"])
    mesh, images, regions = result.pop("refusals")
    assert mesh == (
        "ConfigError: region_parallel takes one dimension of a device mesh, such as mesh['region']; this one has 2: "
        "('data', 'region')"
    )
    assert images == (
        "ShapeError: the ranks that share out the regions of images need the same images, but theirs have 12, 15 "
        "regions, or others: give all ranks of a region group the same ones"
    )
    # As many regions, of which one is another.
    assert "theirs have 7, 7 regions, or others" in regions
    assert max(result.values()) < 1e-9, result


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "region_ranks"), [(2, 2), (4, 4), (4, 2)])
def test_every_head_and_way_of_streaming(tmp_path: Path, processes: int, region_ranks: int) -> None:
    # Four processes in groups of two are two groups with images of their own.
    result = found(tmp_path, processes, region_ranks, list(CASES))
    assert max(result.values()) < 1e-9, result


class Mesh:
    """As much of a device mesh as a share is counted from."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks

    def size(self) -> int:
        return self.ranks

    def get_local_rank(self) -> int:
        return self.rank

    def get_group(self) -> None:
        return None


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_shares_are_neighbours_and_nearly_equal(ranks: int) -> None:
    model = make_model(num_classes=2)
    image = make_image()
    batches = RegionPass(model, [image], model.streaming).batches([model.grid(image)])
    batches._batches = [range(5), range(5, 10), range(10, 11), range(11, 12)]
    meshes: list[Any] = [Mesh(rank, ranks) for rank in range(ranks)]
    shares = [share_of(batches, mesh) for mesh in meshes]
    assert [number for share in shares for number in share.numbers] == [0, 1, 2, 3]
    lengths = [len(share.numbers) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    firsts = [share.first_region for share in shares if share.numbers]
    assert firsts == [batches.first_region(share.numbers[0]) for share in shares if share.numbers]


def test_one_process_exchanges_nothing() -> None:
    model = make_model(num_classes=2)
    image = make_image()
    batches = RegionPass(model, [image], model.streaming).batches([model.grid(image)])
    share = share_of(batches, None)
    assert share == Share(numbers=range(len(batches)))
    rows = torch.ones(3)
    assert share.gather(rows) is share.sum(rows) is rows
    assert share.largest(4) == 4
    assert agree(None, [], 7, torch.device("cpu")) == 7
