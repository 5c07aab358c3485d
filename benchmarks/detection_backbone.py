"""Memory and time of a training step of detectors' backbones: `xt.detection_backbone` beside whole-image ones.

    python benchmarks/detection_backbone.py --threads 1

One image, forward and backward of all maps of the feature pyramid, each contestant in a process of its own. Time is
that of the processor (not of the clock, so another program on the machine does not count), of the second step; memory
is the peak above what the model, the image and the first step's gradients take.
"""

import argparse
import json
import time
from collections import OrderedDict
from typing import Any

import timm
import torch
from common import GIVES_BACK, in_fresh_process, peak_bytes, print_table, write_results
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import xt

SIZES = {"COCO": (800, 1344), "Cityscapes": (1024, 2048)}
CONTESTANTS = {
    "resnet50 of torchvision, whole image": {},
    "{encoder}, whole image": {},
    "xt {encoder}, no context, keep=none": {"context": "none", "keep": "none"},
    "xt {encoder}, {context}, keep=none": {"keep": "none"},
    "xt {encoder}, {context}, keep=all": {"keep": "all"},
}


class WholeImage(nn.Module):
    """A timm network's maps of the whole image below the same pyramid: as detectors do it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = timm.create_model(name, features_only=True)
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), 256, LastLevelMaxPool())

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return self.pyramid(OrderedDict((str(n), features) for n, features in enumerate(self.body(images))))


def backbone_of(contestant: str, encoder: str, context: str, region_size: int) -> nn.Module:
    if contestant.startswith("resnet50"):
        return resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    if not contestant.startswith("xt"):
        return WholeImage(encoder)
    settings = CONTESTANTS[contestant]
    context = settings.get("context", context)
    backbone = xt.detection_backbone(encoder, context=context, region_size=region_size)
    backbone.streaming = xt.Streaming(keep=settings["keep"])
    return backbone


def point(contestant: str, size: str, encoder: str, context: str, region_size: int, threads: int) -> None:
    """Measure one contestant."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    backbone = backbone_of(contestant, encoder, context, region_size)
    images = torch.randn(1, 3, *SIZES[size])

    def step() -> None:
        backbone.zero_grad(set_to_none=False)
        torch.stack([features.square().mean() for features in backbone(images).values()]).sum().backward()

    for parameter in backbone.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    before = peak_bytes()
    step()
    memory = peak_bytes() - before
    start = time.process_time()
    step()
    print(json.dumps({"seconds": time.process_time() - start, "bytes": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="convnext_tiny")
    parser.add_argument("--context", default="transformer_xl")
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        point(**options.point)
        return
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        for contestant in CONTESTANTS:
            found = in_fresh_process(
                __file__, GIVES_BACK, contestant=contestant, size=size, encoder=options.encoder,
                context=options.context, region_size=options.region_size, threads=options.threads,
            )  # fmt: skip
            name = contestant.format(encoder=options.encoder, context=options.context)
            height, width = SIZES[size]
            rows.append(
                {
                    "image": f"{height} x {width}",
                    "backbone": name,
                    "memory, GB": round(found["bytes"] / 1e9, 2),
                    "seconds of one core": round(found["seconds"], 1),
                }
            )
    print_table(rows)
    write_results("detection_backbone", rows, region_size=options.region_size)


if __name__ == "__main__":
    main()
