"""Detectors of torchvision's on a small backbone, and scenes of shapes to learn from."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import masks_to_boxes

import xt
from xt.model.detection_backbone import RegionPyramid

Target = dict[str, Tensor]


def small_backbone(**settings: Any) -> RegionPyramid:
    """Of 64-pixel regions; what context says is heard from the start, which training alone would bring about."""
    torch.manual_seed(0)
    defaults = {
        "encoder": "convnext_atto",
        "encoder_options": {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)},
        "context": "full",
        "region_size": 64,
        "dim": 32,
        "out_channels": 32,
    }
    defaults |= {} if settings.get("context") == "none" else {"context_options": {"depth": 1}}
    backbone = xt.detection_backbone(**(defaults | settings))
    for context_map in backbone.context_maps:
        torch.nn.init.normal_(context_map.projection.weight, std=0.1)
    return backbone


def small_mask_rcnn(backbone: RegionPyramid, size: int) -> MaskRCNN:
    """Mask R-CNN of two classes, with heads as small as the backbone."""
    channels = backbone.out_channels
    return MaskRCNN(
        backbone,
        image_mean=backbone.image_mean,
        image_std=backbone.image_std,
        min_size=size,
        max_size=size,
        rpn_anchor_generator=AnchorGenerator(((16,), (24,), (32,), (48,), (64,)), ((1.0,),) * 5),
        box_head=TwoMLPHead(channels * 49, 64),
        box_predictor=FastRCNNPredictor(64, 3),
        mask_head=MaskRCNNHeads(channels, (32,), 1),
        mask_predictor=MaskRCNNPredictor(32, 32, 3),
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=50,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_test=50,
        box_batch_size_per_image=32,
        box_detections_per_img=20,
    )


def shapes(generator: torch.Generator, height: int, width: int, count: int = 3) -> tuple[Tensor, Target]:
    """Bright discs (label 1) and squares (label 2) on noise, none on top of another."""
    image = 0.2 * torch.rand(3, height, width, generator=generator)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    taken = torch.zeros(height, width, dtype=torch.bool)
    masks, labels = [], []
    while len(masks) < count:
        at_y, at_x, size, kind = torch.rand(4, generator=generator).tolist()
        radius = 10 + 8 * size
        dy = y - radius - at_y * (height - 2 * radius)
        dx = x - radius - at_x * (width - 2 * radius)
        mask = dy**2 + dx**2 < radius**2 if kind < 0.5 else (dy.abs() < radius) & (dx.abs() < radius)
        if bool((mask & taken).any()):
            continue
        taken |= mask
        image[:, mask] += 0.5
        masks.append(mask)
        labels.append(1 if kind < 0.5 else 2)
    stacked = torch.stack(masks)
    boxes = masks_to_boxes(stacked) + torch.tensor([0, 0, 1, 1])  # half-open
    return image, {"boxes": boxes, "labels": torch.tensor(labels), "masks": stacked.to(torch.uint8)}
