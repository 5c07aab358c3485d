"""One of the processes of `test_region_parallel`: region-parallel losses and gradients against those of one process.

Arguments: ranks that share out the regions of an image, file to write the largest differences to, cases.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from tests.heads.test_detection_streaming import DETECTION, make_boxes
from tests.model.test_dense import POINTS, SEGMENTATION, make_image, make_mask, make_model, make_points
from xt import XT, LargeImage
from xt.errors import XTError
from xt.regions.encoded import EncodedImage
from xt.regions.pyramid_grid import PyramidGrid
from xt.streaming.map import Streaming

REGION_BATCH = 2
# Of two thumbnails each rank takes one, one process both: another batch has other draws.
DRAWS_NOTHING = {"encoder_options": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}}
# 3 x 4 regions of the first image, seen at scales 1, 2 and 4.
CHOSEN = {"levels": 3, "regions_options": {"budget": 0.8}, "context_options": {"depth": 1}}
CASES: dict[str, dict[str, Any]] = {
    # 12 + 2 regions of two images in 7 batches, which neither 2 nor 4 ranks share evenly.
    "classification": {"num_classes": 3, "context_options": {"depth": 1, "dropout": 0.2}},
    "classification_some_gradient": {"num_classes": 3, "gradient_fraction": 0.4},
    "classification_keep": {"num_classes": 3, "keep": "all"},
    "classification_thumbnail": {"num_classes": 3, "context": "none", "thumbnail": True, **DRAWS_NOTHING},
    # One region: all ranks but one have nothing to do.
    "classification_few_regions": {"num_classes": 3, "sizes": [(60, 60)]},
    "classification_by_content": {"num_classes": 3, "regions": "by_content", **CHOSEN, **DRAWS_NOTHING},
    "classification_by_model": {"num_classes": 3, "regions": "by_model", **CHOSEN, **DRAWS_NOTHING},
    # Encoded before: features of a few regions are one batch, which the first rank has.
    "encoded": {"num_classes": 3, "encoded": True},
    "segmentation": {**SEGMENTATION, "features": "none"},
    "segmentation_maps": {**SEGMENTATION, "features": "host", "halo": 32},
    "segmentation_no_context": {**SEGMENTATION, "context": "none"},
    "segmentation_thumbnail": {**SEGMENTATION, "features": "none", "thumbnail": True, **DRAWS_NOTHING},
    "segmentation_few_regions": {**SEGMENTATION, "features": "none", "sizes": [(60, 60)]},
    "segmentation_few_regions_maps": {**SEGMENTATION, "features": "auto", "sizes": [(60, 60)]},
    "segmentation_by_content": {**SEGMENTATION, "regions": "by_content", **CHOSEN, **DRAWS_NOTHING},
    # Maps are kept for the second pass, halos are read, and opened regions stay in the sequence.
    "segmentation_by_content_pyramid": {
        **SEGMENTATION,
        "features": "host",
        "halo": 32,
        "regions": "by_content",
        **CHOSEN,
        **DRAWS_NOTHING,
        "regions_options": {"budget": 0.8, "keep_coarse": True},
    },
    "segmentation_by_model": {**SEGMENTATION, "regions": "by_model", **CHOSEN, **DRAWS_NOTHING},
    "segmentation_by_model_thumbnail": {
        **SEGMENTATION,
        "regions": "by_model",
        **CHOSEN,
        **DRAWS_NOTHING,
        "context": "none",
        "context_options": {},
        "thumbnail": True,
    },
    "points_by_model": {**POINTS, "features": "auto", "regions": "by_model", **CHOSEN, **DRAWS_NOTHING},
    "detection_by_content": {
        **DETECTION,
        "features": "none",
        "halo": 32,
        "regions": "by_content",
        **CHOSEN,
        **DRAWS_NOTHING,
    },
    # One region, and nothing to open.
    "segmentation_by_model_few_regions": {
        **SEGMENTATION,
        "regions": "by_model",
        "sizes": [(60, 60)],
        **CHOSEN,
        **DRAWS_NOTHING,
    },
    "points": {**POINTS, "features": "auto"},
    "detection": {**DETECTION, "features": "none", "halo": 32},
    "detection_few_regions": {**DETECTION, "features": "auto", "sizes": [(60, 60)]},
}

DECODED: list[dict[str, Any]] = [
    SEGMENTATION,
    {**SEGMENTATION, "regions": "by_content", **CHOSEN},
    {**SEGMENTATION, "regions": "by_model", **CHOSEN},
]


class Loss(nn.Module):
    """What DistributedDataParallel wraps: a call gives the loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: list[Any], targets: Any, **streaming: Any) -> Tensor:
        loss: Tensor = self.model.loss(images, targets, **streaming)
        return loss


class Features(EncodedImage):
    """Features that lie in memory."""

    def __init__(self, model: XT, image: LargeImage) -> None:
        self.name, self.channels, self.grid = image.name, image.channels, model.grid(image)
        self.feature_shape = (model.tokens_per_side**2, model.region_encoder.feature_dims[-1])
        self.dtype = np.dtype(np.float64)
        self.features = np.random.default_rng(5).random((len(self.grid), *self.feature_shape))

    def read_features(self, start: int, stop: int) -> NDArray[np.floating]:
        return self.features[start:stop]

    def flip(self, axis: str) -> EncodedImage:
        raise NotImplementedError

    def rotate(self, quarter_turns: int) -> EncodedImage:
        raise NotImplementedError

    def close(self) -> None:
        return


def inputs(head: str, sizes: list[tuple[int, int]], group: int) -> tuple[list[Any], Any]:
    """The images of a data-parallel group, and their targets."""
    sizes = [(height + 3 * group, width) for height, width in sizes]
    images = [make_image(*size) for size in sizes]
    if head == "classification":
        return images, torch.tensor([(group + number) % 3 for number in range(len(sizes))])
    make: Any = {"segmentation": make_mask, "points": make_points, "detection": make_boxes}[head]
    return images, [make(*size) for size in sizes]


def difference(name: str, mesh: DeviceMesh) -> float:
    """The largest of all ranks' relative differences of the loss and of any parameter's gradient."""
    case = dict(CASES[name])
    sizes = case.pop("sizes", [(150, 200), (60, 100)])
    encoded = case.pop("encoded", False)
    streaming = {key: case.pop(key) for key in ("features", "keep", "gradient_fraction") if key in case}
    regions = mesh["region"]
    model = make_model(**case).train()
    model.streaming = Streaming(**streaming)
    head = model.config.head
    if encoded:
        model.region_encoder.network.requires_grad_(False)
    wrapped = DistributedDataParallel(Loss(model))
    # Region batches are those of one process, as small as gives each rank equally many.
    groups = [inputs(head, sizes, group) for group in range(mesh["data"].size())]
    if encoded:
        groups = [([Features(model, image) for image in images], targets) for images, targets in groups]
    images, targets = groups[mesh["data"].get_local_rank()]
    seed = mesh["data"].get_local_rank() if regions.get_local_rank() == 0 else 1000 + dist.get_rank()
    torch.manual_seed(seed)
    loss = wrapped(images, targets, region_parallel=regions, region_batch=REGION_BATCH)
    loss.backward()
    found = {key: value.grad.clone() for key, value in model.named_parameters() if value.requires_grad}

    expected = {key: torch.zeros_like(value) for key, value in found.items()}
    worst = 0.0
    for group, (images, targets) in enumerate(groups):
        model.zero_grad()
        torch.manual_seed(group)
        number = sum(len(model.grid(image)) for image in images)
        rounds = -(-number // (REGION_BATCH * regions.size()))
        batch = -(-number // (rounds * regions.size()))
        alone = model.loss(images, targets, region_batch=batch)
        alone.backward()
        if group == mesh["data"].get_local_rank():
            worst = abs(float((loss - alone).detach() / alone.detach()))
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                expected[key] += parameter.grad / len(groups)
    scale = max(float(value.abs().max()) for value in expected.values())
    worst = max(worst, *(float((found[key] - expected[key]).abs().max()) / scale for key in expected))
    result = torch.tensor(worst)
    dist.all_reduce(result, dist.ReduceOp.MAX)
    return float(result)


def answers_difference(mesh: DeviceMesh) -> float:
    """The largest difference between answers without a graph and those of one process: an image's, and its regions'."""
    regions, image = mesh["region"], make_image()
    model = make_model(num_classes=3).eval()
    with torch.no_grad():
        together = model(image, region_parallel=regions, region_batch=REGION_BATCH)
        worst = float((together - model(image)).abs().max())
    return max(worst, *(_decoded_difference(settings, regions) for settings in DECODED))


def _decoded_difference(settings: dict[str, Any], regions: DeviceMesh) -> float:
    """The largest difference between what this rank decodes and what one process does; each region is somebody's."""
    image, dense = make_image(), make_model(**settings).eval()
    dense.streaming = Streaming(region_batch=1)
    expected = {part.regions[0]: part.predictions[0] for part in dense.decode(image, **_looked(dense, image))}
    dense.streaming = Streaming(region_batch=1, region_parallel=regions)
    found = {part.regions[0]: part.predictions[0] for part in dense.decode(image, **_looked(dense, image))}
    shares: list[Any] = [None] * regions.size()
    dist.all_gather_object(shares, list(found), group=regions.get_group())
    everybody = [region for share in shares for region in share]
    assert sorted(everybody) == sorted(expected), "every region is somebody's, and nobody else's"
    assert (len({region.height for region in everybody}) > 1) == ("regions" in settings)
    return max(float((found[region] - expected[region]).abs().max()) for region in found)


def _looked(model: XT, image: LargeImage) -> dict[str, Any]:
    """What `decode` is given of a model that chooses."""
    dense = model.dense_pass(image)
    return {"context": dense.context(), "grid": dense.grids[0]}


def refusals(mesh: DeviceMesh) -> list[str]:
    """What is said of a mesh of two dimensions, and where ranks are given different images, or other regions."""
    model = make_model(num_classes=3, levels=2)
    said = []
    rank, image = mesh["region"].get_local_rank(), make_image()
    others = PyramidGrid.coarsest(model.fine_grid(image), 2).opened(np.array([rank]))
    for images, grids, ranks in (
        (image, None, mesh),
        (make_image(150, 200 + 100 * rank), None, mesh["region"]),
        (image, [others], mesh["region"]),
    ):
        try:
            model(images, grids=grids, region_parallel=ranks)
        except XTError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def main() -> None:
    region_ranks, out, *names = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shape = (dist.get_world_size() // int(region_ranks), int(region_ranks))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "region"))
    others: dict[str, Any] = {"answers": answers_difference, "refusals": refusals}
    found = {name: others[name](mesh) if name in others else difference(name, mesh) for name in names}
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
