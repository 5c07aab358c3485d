"""The backbone for torchvision's detectors: plugs in, streams exactly, carries context, learns."""

import pytest
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import xt
from tests.small_detectors import shapes, small_backbone, small_mask_rcnn
from tests.small_models import SMALL_ENCODERS
from xt.errors import ConfigError, PixelError, ShapeError
from xt.heads.context_map import neighbouring_tokens
from xt.model.detection_backbone import RegionPyramid
from xt.region_encoders.scaling import MISSING
from xt.regions.grid import RegionGrid
from xt.regions.sequences import as_sequences
from xt.regions.whole_maps import put_together, without_padding
from xt.streaming.map import Streaming


def scaled(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("detector", [MaskRCNN, FasterRCNN, FCOS, RetinaNet])
def test_detectors_of_torchvision_train_and_predict(detector):
    backbone = small_backbone()
    model = detector(
        backbone,
        num_classes=3,
        image_mean=backbone.image_mean,
        image_std=backbone.image_std,
        min_size=96,
        max_size=128,
    )
    generator = torch.Generator().manual_seed(0)
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.long),
        "masks": torch.zeros(0, 96, 96, dtype=torch.uint8),
    }
    image, target = shapes(generator, 100, 130)
    losses = model([image, torch.rand(3, 96, 96)], [target, empty])
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert ("loss_mask" in losses) == (detector is MaskRCNN)
    sum(losses.values()).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        # A key's bias shifts all of a row's scores, which a softmax does not see.
        assert bool(parameter.grad.any()) or name.endswith("bias"), name
    with torch.no_grad():
        first, second = model.eval()([image, torch.rand(3, 50, 70)])
    assert set(first) == {"boxes", "labels", "scores"} | ({"masks"} if detector is MaskRCNN else set())
    if detector is MaskRCNN:
        assert first["masks"].shape[1:] == (1, 100, 130)
        assert second["masks"].shape[1:] == (1, 50, 70)


@pytest.mark.parametrize("name", SMALL_ENCODERS)
@pytest.mark.parametrize("size", [(64, 64), (65, 130), (1, 1), (150, 31)])
def test_maps_of_any_size_come_at_strides_4_to_64(name, size):
    backbone = small_backbone(encoder=name, encoder_options=SMALL_ENCODERS[name]).eval()
    height, width = size
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, height, width))
    assert list(maps) == ["0", "1", "2", "3", "pool"]
    coarsest = -(-height // 32), -(-width // 32)
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
    sizes.append(tuple(-(-side // 2) for side in coarsest))
    assert [tuple(features.shape) for features in maps.values()] == [(2, 32, *size) for size in sizes]


def test_the_first_map_may_be_coarser_and_more_may_follow():
    backbone = small_backbone(finest_stride=8, extra_blocks=LastLevelP6P7(32, 32))
    maps = backbone(torch.randn(1, 3, 128, 128))
    assert [features.shape[-1] for features in maps.values()] == [16, 8, 4, 2, 1]
    assert list(maps) == ["0", "1", "2", "p6", "p7"]


def test_a_resnet_starts_at_stride_2_and_its_batch_norm_can_be_frozen():
    backbone = small_backbone(encoder="resnet18", encoder_options={})
    assert backbone.strides == [4, 8, 16, 32]
    freeze_batch_norm_2d(backbone.region_encoder.network)
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert [features.shape[-1] for features in maps.values()] == [16, 8, 4, 2, 1]
    maps["0"].sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_any_channels(channels):
    backbone = small_backbone(in_channels=channels, pixel_mean=[0.1] * channels, pixel_std=[0.2] * channels)
    assert backbone(torch.randn(1, channels, 70, 70))["0"].shape == (1, 32, 18, 18)
    assert backbone.image_mean == pytest.approx([0.1] * channels)
    assert backbone.image_std == pytest.approx([0.2] * channels)


def test_pixels_are_scaled_once():
    backbone = small_backbone()
    assert backbone.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert backbone.image_std == pytest.approx([0.229, 0.224, 0.225])
    seen = []
    backbone.region_encoder.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model = small_mask_rcnn(backbone, 64).eval()
    image = torch.rand(3, 64, 64)
    model([image])
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.image_mean, backbone.image_std))
    torch.testing.assert_close(seen[-1][0], (image - mean) / std)


def twin_maps(backbone: RegionPyramid, images: Tensor, region_batch: int, seed: int) -> list[Tensor]:
    """Everything with one graph, region by region, for images of one size that have no filling."""
    encoder, (height, width) = backbone.region_encoder, images.shape[2:]
    size, halo = encoder.region_size, encoder.halo
    grid = RegionGrid(height=height, width=width, region_size=size, order=backbone.order)
    margins = (halo, size + halo, halo, size + halo)
    padded = torch.nn.functional.pad(images, margins, value=MISSING)
    windows = [
        image[:, region.y : region.y + size + 2 * halo, region.x : region.x + size + 2 * halo]
        for image in padded
        for region in grid
    ]
    pieces = []
    for number, batch in enumerate(torch.stack(windows).split(region_batch)):
        torch.manual_seed(seed + number)  # as the map draws
        pieces.append(encoder.feature_maps(batch))
    maps = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    tokens = encoder.project(encoder.pooled(maps[-1]))
    maps = maps if backbone.region_maps.finer is None else backbone.region_maps.finer(maps)
    grids = [grid] * len(images)
    mixed = backbone.context_encoder(*as_sequences(tokens, grids, encoder.tokens_per_side)).flatten(0, 1)
    result = []
    for features, norm, stride, context_map in zip(
        maps, backbone.region_maps.norms, backbone.strides, backbone.context_maps, strict=True
    ):
        rim, side = halo // stride, size // stride
        inner = norm(features[..., rim : rim + side, rim : rim + side])
        near = torch.from_numpy(neighbouring_tokens(grids, encoder.tokens_per_side, context_map.reach))
        scale, shift = context_map(mixed[near]).chunk(2, dim=1)
        inner = inner + inner * scale + shift
        whole = torch.zeros(len(images), inner.shape[1], grid.rows * side, grid.columns * side).double()
        for number, part in enumerate(inner):
            image, place = divmod(number, len(grid))
            row, column = grid.cells[place] * side
            whole[image, :, row : row + side, column : column + side] = part
        result.append(whole[..., : -(-height // stride), : -(-width // stride)])
    return result


@pytest.mark.parametrize("keep", ["none", "all", "auto"])
@pytest.mark.parametrize(("halo", "order"), [(0, "raster"), (32, "hilbert")])
def test_maps_and_gradients_equal_those_in_one_piece(keep, halo, order):
    options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "drop_path_rate": 0.5}
    backbone = small_backbone(halo=halo, order=order, encoder_options=options, tokens_per_region=4).double()
    backbone.streaming = Streaming(region_batch=5, keep=keep)
    assert_equal_to_one_piece(backbone)


def assert_equal_to_one_piece(backbone: RegionPyramid) -> None:
    """Maps, and the gradients of all that learns, of two images in region batches of 5."""
    images = scaled(2, 3, 150, 200)
    weights = [scaled(*features.shape) for features in backbone(images).values()]

    def loss_of(maps: list[Tensor]) -> Tensor:
        names = map(str, range(len(maps)))
        merged = backbone.pyramid(dict(zip(names, maps, strict=True))).values()
        return sum((features**2 * weight).mean() for features, weight in zip(merged, weights, strict=True))

    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    maps = backbone.maps(images)
    loss, twin = loss_of(maps), loss_of(twin_maps(backbone, images, 5, seed))
    assert loss.item() == pytest.approx(twin.item(), rel=1e-9)
    parameters = {name: each for name, each in backbone.named_parameters() if each.requires_grad}
    ours = torch.autograd.grad(loss, list(parameters.values()))
    theirs = torch.autograd.grad(twin, list(parameters.values()))
    scale = max(float(gradient.abs().max()) for gradient in theirs)
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        assert float((a - b).abs().max()) <= 1e-9 * scale, name


def test_losses_of_mask_rcnn_do_not_depend_on_the_region_batch():
    generator = torch.Generator().manual_seed(1)
    scenes = [shapes(generator, 128, 128), shapes(generator, 100, 120)]
    images = [image.double() for image, _ in scenes]
    targets = [{**target, "boxes": target["boxes"].double()} for _, target in scenes]
    model = small_mask_rcnn(small_backbone(), 128).double()
    found = []
    for streaming in (Streaming(region_batch=1), Streaming(region_batch=64, keep="all")):
        model.backbone.streaming = streaming
        torch.manual_seed(0)  # the detector draws which boxes to learn from
        losses = model(images, [dict(target) for target in targets])
        gradients = torch.autograd.grad(
            sum(losses.values()), list(model.backbone.parameters()), allow_unused=True
        )
        found.append((losses, gradients))
    (losses, gradients), (others, other_gradients) = found
    assert losses.keys() == others.keys()
    assert losses["loss_mask"] > 0
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(others[name].item(), rel=1e-9), name
    scale = max(float(gradient.abs().max()) for gradient in gradients)
    for a, b in zip(gradients, other_gradients, strict=True):
        assert float((a - b).abs().max()) <= 1e-9 * scale


def test_an_image_is_the_same_beside_a_larger_one():
    backbone = small_backbone(halo=32, tokens_per_region=4).double().eval()
    image, larger = scaled(1, 3, 70, 130), scaled(1, 3, 200, 180, seed=4)
    together = torch.zeros(2, 3, 224, 192, dtype=torch.float64)
    together[0, :, :70, :130], together[1, :, :200, :180] = image[0], larger[0]
    with torch.no_grad():
        both, alone, other = (backbone.maps(images) for images in (together, image, larger))
    for stride, maps, small, large in zip(backbone.strides, both, alone, other, strict=True):
        height, width = small.shape[2:]
        torch.testing.assert_close(maps[0, :, :height, :width], small[0])
        height, width = large.shape[2:]
        torch.testing.assert_close(maps[1, :, :height, :width], large[0])
        assert not maps[0, :, 128 // stride :].any(), "beyond the image no region is looked at"


@pytest.mark.parametrize(("context", "reaches"), [("full", True), ("transformer_xl", True), ("none", False)])
def test_context_reaches_far_regions(context, reaches):
    backbone = small_backbone(context=context).double().eval()
    images = scaled(1, 3, 64, 640)
    changed = images.clone()
    changed[..., 600:] += 1.0
    with torch.no_grad():
        pairs = zip(backbone(images).values(), backbone(changed).values(), strict=True)
        differences = [(a - b)[..., : max(a.shape[3] // 10, 1)].abs().max() for a, b in pairs]
    # From stride 4 to 64, over a distance of more than eight regions.
    assert [bool(difference > 1e-6) for difference in differences] == [reaches] * 5


def test_a_new_backbone_says_what_its_region_encoder_says():
    torch.manual_seed(0)
    settings = {"encoder_options": SMALL_ENCODERS["convnext_atto"], "region_size": 64, "dim": 16}
    backbone = xt.detection_backbone("convnext_atto", out_channels=16, **settings).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = backbone.region_encoder.feature_maps(images)
        for ours, features, norm in zip(backbone.maps(images), maps, backbone.region_maps.norms, strict=True):
            torch.testing.assert_close(ours, norm(features))


@pytest.mark.parametrize("name", SMALL_ENCODERS)
def test_frozen_stages_stay_as_they_are(name):
    backbone = small_backbone(encoder=name, encoder_options=SMALL_ENCODERS[name], frozen_stages=2).eval()
    encoder = backbone.region_encoder
    frozen = [p for p in encoder.network.parameters() if not p.requires_grad]
    assert frozen
    assert len(frozen) < len(list(encoder.network.parameters()))
    before = [features.clone() for features in encoder.feature_maps(torch.ones(1, 3, 64, 64))]
    backbone.train()
    optimiser = torch.optim.SGD(backbone.parameters(), lr=0.1)
    sum((features**2).mean() for features in backbone(torch.randn(1, 3, 128, 64)).values()).backward()
    optimiser.step()
    after = backbone.eval().region_encoder.feature_maps(torch.ones(1, 3, 64, 64))
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, True, False, False]


def test_all_stages_frozen_leave_context_and_pyramid_to_train():
    backbone = small_backbone(frozen_stages=4)
    assert not any(parameter.requires_grad for parameter in backbone.region_encoder.network.parameters())
    backbone(torch.randn(1, 3, 64, 128))["0"].sum().backward()
    assert backbone.region_encoder.projection.weight.grad.any()


VIT = {"encoder": "vit_tiny_patch16_224", "encoder_options": {"depth": 2, "embed_dim": 24, "num_heads": 2}}


@pytest.mark.parametrize(
    ("settings", "keep", "features"),
    [
        ({}, "none", "auto"),
        ({"halo": 32}, "all", "host"),
        (VIT | {"halo": 16}, "none", "device"),
        (VIT, "auto", "auto"),
    ],
)
def test_a_network_that_does_not_learn_is_run_once_without_a_graph(settings, keep, features):
    backbone = small_backbone(tokens_per_region=4, **settings).double().train()
    backbone.region_encoder.freeze()
    backbone.streaming = Streaming(region_batch=5, keep=keep, features=features)
    seen = []
    backbone.region_encoder.network.register_forward_hook(
        lambda _, inputs, __: seen.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    sum((features**2).mean() for features in backbone(scaled(2, 3, 150, 200)).values()).backward()
    # Two images of 3 x 4 regions.
    assert seen == [(5, False)] * 4 + [(4, False)]
    assert backbone.region_maps.norms[0].weight.grad.any()
    assert_equal_to_one_piece(backbone)


def test_what_a_still_network_finds_need_not_be_kept():
    backbone = small_backbone(tokens_per_region=4).double().train()
    backbone.region_encoder.freeze()
    backbone.streaming = Streaming(region_batch=5, features="none")
    seen = []
    backbone.region_encoder.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    sum((features**2).mean() for features in backbone(scaled(1, 3, 150, 200)).values()).backward()
    assert sum(seen) == 2 * 12
    assert_equal_to_one_piece(backbone)


def test_a_still_network_without_context_leaves_norms_and_pyramid_to_learn():
    backbone = small_backbone(context="none", frozen_stages=4)
    sum(features.sum() for features in backbone(torch.randn(1, 3, 64, 128)).values()).backward()
    used = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert used == {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_what_is_kept_of_a_region_is_counted():
    for settings in ({}, VIT, {"context": "none", "finest_stride": 8}):
        region_maps = small_backbone(tokens_per_region=4, **settings).region_maps
        found = region_maps.find(torch.zeros(1, 3, 64, 64))
        assert region_maps.bytes_found() == sum(each.numel() * each.element_size() for each in found)


def test_without_context_every_trainable_parameter_is_used():
    backbone = small_backbone(context="none")
    sum(features.sum() for features in backbone(torch.randn(1, 3, 64, 64)).values()).backward()
    used = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert used == {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_in_mixed_precision():
    backbone = small_backbone()
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(torch.randn(1, 3, 64, 128))
        sum(features.float().mean() for features in maps.values()).backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in backbone.parameters())


def test_filling_is_found_and_marked():
    images = torch.ones(3, 2, 5, 6)
    images[1, :, 3:], images[1, :, :, 4:] = 0, 0
    images[1, 0, 0] = 0  # of one channel only, or at the top: pixels
    images[2] = 0
    marked, sizes = without_padding(images, MISSING)
    assert sizes == [(5, 6), (3, 4), (1, 1)]
    assert torch.equal(marked[0], images[0])
    assert torch.equal(marked[1, :, :3, :4], images[1, :, :3, :4])
    assert (marked[1, :, 3:] == MISSING).all()
    assert (marked[1, :, :, 4:] == MISSING).all()
    assert (marked[2] == MISSING).all()


def test_parts_are_put_where_they_belong():
    parts = torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    places = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 0, 0]])
    whole = put_together(parts, places, (2, 2, 2))
    assert whole[:, 0, ::2, ::2].tolist() == [[[1, 2], [0, 0]], [[4, 0], [0, 3]]]
    assert torch.equal(whole, whole[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, "detection_backbone has no setting 'heads'"),
        ({"num_classes": 3}, "detection_backbone has no setting 'num_classes'"),
        ({"region_size": 100}, "regions of a multiple of convnext_atto's last stride 32, got 100 pixels"),
        ({"frozen_stages": 5}, "frozen_stages must be from 0 to 4, the maps of convnext_atto, got 5"),
        ({"finest_stride": 64}, r"needs maps whose strides double, 64 pixels or more, .* \[4, 8, 16, 32\]"),
        (
            {
                "encoder": "vit_tiny_patch16_224",
                "encoder_options": {"depth": 2, "out_indices": (0, 1)},
                "finest_stride": 16,
            },
            r"the maps of vit_tiny_patch16_224 have strides \[16, 16\]: choose a hierarchical",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        small_backbone(**settings)


def test_images_that_do_not_fit_are_refused():
    backbone = small_backbone()
    with pytest.raises(ShapeError, match=r"of shape \(images, 3, height, width\), got torch.uint8 of \(1, 3"):
        backbone(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"got torch.float32 of \(1, 4, 64, 64\)"):
        backbone(torch.zeros(1, 4, 64, 64))
    with pytest.raises(PixelError, match="NaN or infinite"):
        backbone(torch.full((1, 3, 64, 64), float("nan")))


@pytest.mark.slow
def test_mask_rcnn_learns_boxes_and_masks():
    model = small_mask_rcnn(small_backbone(), 96)
    steps, generator = 150, torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        images, targets = zip(*(shapes(generator, 96, 96, count=2) for _ in range(3)), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    hits = overlaps = total = 0
    with torch.no_grad():
        for _ in range(10):
            image, target = shapes(generator, 96, 96, count=2)
            found = model.eval()([image])[0]
            same = target["labels"][:, None] == found["labels"][found["scores"] > 0.5]
            overlap, which = (box_iou(target["boxes"], found["boxes"][: same.shape[1]]) * same).max(dim=1)
            masks, true = found["masks"][which, 0] > 0.5, target["masks"].bool()
            mask_overlap = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2))
            total += len(overlap)
            hits += int((overlap > 0.7).sum())
            overlaps += int((mask_overlap[overlap > 0.7] > 0.75).sum())
    assert total == 20
    assert hits >= 17, f"{hits} of 20 boxes found"
    assert overlaps >= 17, f"{overlaps} of 20 masks fit"
