"""Dense heads streamed: the same losses, gradients and answers as in one piece."""

import gc
import weakref

import numpy as np
import pytest
import torch

import xt
from tests.prediction.dense_models import dense_model, scene
from xt.errors import ConfigError, PixelError, ShapeError
from xt.heads import PointTable
from xt.heads.context_map import neighbouring_tokens
from xt.model.dense import Decode
from xt.regions.sequences import as_sequences
from xt.streaming.map import Streaming

REGION = 64
SEGMENTATION = {"head": "segmentation", "num_classes": 3, "head_options": {"width": 8}}
POINTS = {
    "head": "points",
    "num_classes": 2,
    "head_options": {"width": 8, "attributes": {"is_vessel": "yes_no", "length": "number"}},
}


def make_model(encoder: str = "convnext_atto", **settings) -> xt.XT:
    torch.manual_seed(0)
    small = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "drop_path_rate": 0.5}
    if not encoder.startswith("convnext"):
        small = {"drop_path_rate": 0.3, "depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 4)}
    defaults = {"region_size": REGION, "dim": 16, "encoder_options": small, "tokens_per_region": 4}
    defaults |= {"context_options": {"depth": 1}} if settings.get("context") != "none" else {}
    return xt.create_model(encoder, **(defaults | settings)).double()


def make_image(height: int = 150, width: int = 200) -> xt.LargeImage:
    rng = np.random.default_rng(1)
    return xt.open_image(rng.random((height, width, 3)))


def make_mask(height: int = 150, width: int = 200) -> xt.LargeImage:
    rng = np.random.default_rng(2)
    mask = rng.integers(0, 3, (height, width, 1)).astype(np.uint8)
    mask[:20, :30] = 255
    return xt.open_image(mask)


def make_points(height: int = 150, width: int = 200) -> PointTable:
    rng = np.random.default_rng(3)
    count = 25
    length = rng.uniform(5, 50, count)
    length[::3] = np.nan
    return PointTable(
        rng.uniform(0, height, count),
        rng.uniform(0, width, count),
        labels=rng.integers(0, 2, count),
        attributes={"is_vessel": rng.integers(0, 2, count).astype(float), "length": length},
    )


def unstreamed_maps(
    model: xt.XT, images: list, grids: list, region_batch: int, seed: int
) -> list[torch.Tensor]:
    reader = xt.RegionReader(images, grids, region_batch=region_batch, halo=model.config.halo)
    pieces = []
    for number, batch in enumerate(reader):
        torch.manual_seed(seed + number)  # as the map draws
        pieces.append(model.region_encoder.feature_maps(*batch))
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def unstreamed_loss(
    model: xt.XT, images: list, targets: list, region_batch: int, seed: int, grids: list | None = None
) -> torch.Tensor:
    """The plain twin: everything with one graph, the head's own parts in the order of the figure."""
    grids = [model.grid(image) for image in images] if grids is None else grids
    leaves = [grid.leaves for grid in grids]
    maps = unstreamed_maps(model, images, leaves, region_batch, seed)
    context = None
    if model.config.context != "none":
        seen = unstreamed_maps(model, images, grids, region_batch, seed)
        tokens = model.region_encoder.project(model.region_encoder.pooled(seen[-1]))
        if model.which_scale is not None:
            levels = np.concatenate([np.log2(grid.scales).astype(int) for grid in grids])
            vectors = torch.cat([torch.zeros_like(model.which_scale.weight[:1]), model.which_scale.weight])
            tokens = tokens + vectors[levels][:, None]
        sequences, positions, mask = as_sequences(tokens, grids, model.tokens_per_side)
        rows = model.context_encoder(sequences, positions, mask).flatten(0, 1)
        near = neighbouring_tokens(grids, model.tokens_per_side, model.head.reach)
        context = rows[torch.from_numpy(near)]
    wanted = [
        model.head.region_target(target, region)
        for target, grid in zip(targets, leaves, strict=True)
        for region in grid
    ]
    sums = model.head.statistics(model.head(maps, context), torch.from_numpy(np.stack(wanted)))
    if model.head.task == "segmentation":
        scales = [region.height // grid.region_size for grid in leaves for region in grid]
        sums = sums * torch.tensor(scales)[:, None] ** 2
    return model.head.loss(sums.sum(dim=0))


def assert_same_gradients(
    model: xt.XT, loss: torch.Tensor, twin: torch.Tensor, names: list[str] | None = None
) -> None:
    assert loss.item() == pytest.approx(twin.item(), rel=1e-9)
    learning = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and (names is None or name in names)
    }
    parameters = list(learning.values())
    ours = torch.autograd.grad(loss, parameters, allow_unused=True)
    theirs = torch.autograd.grad(twin, parameters, allow_unused=True)
    scale = max(float(g.abs().max()) for g in theirs if g is not None)
    for name, a, b in zip(learning, ours, theirs, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            assert float((a - b).abs().max()) <= 1e-9 * scale, name


@pytest.mark.parametrize("features", ["device", "host", "none"])
@pytest.mark.parametrize("task", ["segmentation", "points"])
@pytest.mark.parametrize("halo", [0, 32])
def test_losses_and_gradients_equal_those_in_one_piece(task, features, halo):
    settings, target = (SEGMENTATION, make_mask()) if task == "segmentation" else (POINTS, make_points())
    model = make_model(halo=halo, context="full", **settings)
    model.streaming = Streaming(region_batch=5, features=features)
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    loss = model.loss([make_image()], [target])
    assert_same_gradients(model, loss, unstreamed_loss(model, [make_image()], [target], 5, seed))


@pytest.mark.parametrize("keep", ["none", "all", "auto"])
def test_several_images_of_different_size_and_no_context(keep):
    images, masks = [make_image(), make_image(90, 70)], [make_mask(), make_mask(90, 70)]
    for context in ("none", "transformer_xl"):
        model = make_model(context=context, **SEGMENTATION)
        model.streaming = Streaming(region_batch=4, keep=keep, features="none")
        torch.manual_seed(7)
        seed = int(torch.randint(2**62, ()).item())
        torch.manual_seed(7)
        loss = model.loss(images, masks)
        assert_same_gradients(model, loss, unstreamed_loss(model, images, masks, 4, seed))


@pytest.mark.parametrize(("features", "choices"), [("device", 2), ("none", 4)])
def test_the_gradient_of_a_share_of_the_batches_is_exact_on_average(features, choices):
    """Of two region batches one carries gradient, chosen in each map apart; kept maps need no second choice."""
    model = make_model(context="full", **SEGMENTATION).eval()
    image, mask = make_image(REGION, 2 * REGION), make_mask(REGION, 2 * REGION)
    model.streaming = Streaming(region_batch=1, features=features)
    parameters = list(model.region_encoder.network.parameters())

    def gradients(fraction):
        loss = model.loss([image], [mask], gradient_fraction=fraction)
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])

    torch.manual_seed(0)
    drawn = torch.stack([gradients(0.5) for _ in range(30)]).unique(dim=0)
    assert len(drawn) == choices
    torch.testing.assert_close(drawn.mean(dim=0), gradients(1.0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("features", ["device", "none"])
def test_a_model_is_left_as_it_was_and_let_go(features):
    model = make_model(context="full", **SEGMENTATION)
    model.train()
    model.region_encoder.eval()
    modes = [module.training for module in model.modules()]
    names = list(model.state_dict())
    model.loss([make_image()], [make_mask()], features=features).backward()
    assert [module.training for module in model.modules()] == modes
    assert list(model.state_dict()) == names
    encoder = weakref.ref(model.region_encoder)
    del model
    gc.collect()
    assert encoder() is None


def test_swin_reads_a_halo_too():
    model = make_model(
        "swin_tiny_patch4_window7_224",
        region_size=96,
        halo=64,
        context="full",
        encoder_options={"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 4)},
        **SEGMENTATION,
    )
    model.streaming = Streaming(region_batch=2, features="none")
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    loss = model.loss([make_image()], [make_mask()])
    assert_same_gradients(model, loss, unstreamed_loss(model, [make_image()], [make_mask()], 2, seed))


def test_a_tensor_gives_what_the_image_gives():
    model = make_model(halo=32, context="full", **SEGMENTATION).eval()
    image = make_image()
    tensor = torch.from_numpy(image.read(0, 0, *image.shape)).permute(2, 0, 1)[None]
    assert model.loss(tensor, [make_mask()]).item() == pytest.approx(
        model.loss([image], [make_mask()]).item(), rel=1e-12
    )


def test_decoding_in_batches_equals_decoding_at_once_and_from_the_middle():
    model = make_model(halo=32, context="full", **SEGMENTATION).eval()
    image = make_image()
    model.streaming = Streaming(region_batch=100)
    (whole,) = model.decode(image)
    model.streaming = Streaming(region_batch=5)
    parts = list(model.decode(image))
    assert [region for part in parts for region in part.regions] == whole.regions
    together = torch.cat([part.predictions for part in parts])
    torch.testing.assert_close(together, whole.predictions, rtol=1e-6, atol=1e-7)
    context = model.context(image)
    resumed = list(model.decode(image, context=context, first_batch=1))
    assert torch.equal(torch.cat([part.predictions for part in resumed]), together[5:])


def test_decoding_leaves_gradients_to_whoever_it_waits_for():
    model = make_model(**SEGMENTATION, context="none").eval()
    model.streaming = Streaming(region_batch=4)
    first, second = (iter(model.decode(make_image())) for _ in range(2))
    for decoded in (next(first), next(second), next(first)):
        assert not decoded.predictions.requires_grad
        assert torch.is_grad_enabled()
    list(second)
    first.close()
    assert torch.is_grad_enabled()


def test_with_a_halo_wide_enough_there_is_no_seam():
    # Two stages and the decoder look at most 12 + 24 + 8 + 4 + 12 pixels far.
    options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16), "out_indices": (0, 1)}
    settings = {"context": "none", "encoder_options": options, "tokens_per_region": 1} | SEGMENTATION
    image = make_image(160, 224)
    torch.manual_seed(0)
    small = xt.create_model("convnext_atto", region_size=32, halo=96, dim=8, **settings).double().eval()
    large = xt.create_model("convnext_atto", region_size=224, halo=96, dim=8, **settings).double().eval()
    large.load_state_dict(small.state_dict())
    (undivided,) = large.decode(image)
    whole = undivided.predictions[0, :, :160, :224]
    for part in small.decode(image):
        for region, tile in zip(part.regions, part.predictions, strict=True):
            y, x = region.y, region.x
            assert torch.equal(tile.argmax(0), whole[:, y : y + 32, x : x + 32].argmax(0))
    no_halo = xt.create_model("convnext_atto", region_size=32, dim=8, **settings).double().eval()
    no_halo.load_state_dict(small.state_dict())
    tiles = [tile.argmax(0) for part in no_halo.decode(image) for tile in part.predictions]
    differs = [
        bool((tile != whole[:, r.y : r.y + 32, r.x : r.x + 32].argmax(0)).any())
        for tile, r in zip(tiles, no_halo.grid(image), strict=True)
    ]
    assert any(differs)  # else the comparison above would show nothing


def test_memory_runs_out_in_the_second_map(monkeypatch):
    model = make_model(context="full", **SEGMENTATION)
    model.streaming = Streaming(region_batch=5, features="none")
    torch.manual_seed(7)
    expected = model.loss([make_image()], [make_mask()])
    real, largest = type(model.head).forward, 3

    def limited(self, maps, context=None):
        if len(maps[0]) > largest:
            raise torch.OutOfMemoryError("not enough memory")
        return real(self, maps, context)

    monkeypatch.setattr(type(model.head), "forward", limited)
    torch.manual_seed(7)
    with pytest.warns(UserWarning, match="ran out of memory with 5 regions"):
        loss = model.loss([make_image()], [make_mask()])
    assert_same_gradients(model, loss, expected)


@pytest.mark.parametrize("settings", [SEGMENTATION, POINTS])
def test_damaged_weights_do_not_answer(settings):
    model = make_model(context="none", **settings).eval()
    torch.nn.init.constant_(model.head.predict.bias, float("nan"))
    with pytest.raises(PixelError, match=r"for array 150x200x3 is not a number near y=0, x=0"):
        next(iter(model.decode(make_image())))


def test_refusals():
    model = make_model(context="none", **SEGMENTATION)
    with pytest.raises(ConfigError, match=r"does not fit into one tensor: call model.loss"):
        model(make_image())
    with pytest.raises(ShapeError, match=r"1 images and 2 targets"):
        model.loss([make_image()], [make_mask(), make_mask()])
    with pytest.raises(ShapeError, match=r"is 90 x 70 pixels, its image 150 x 200"):
        model.loss([make_image()], [make_mask(90, 70)])
    with pytest.raises(
        ShapeError, match=r"holds the class number 7 near y=0, x=0; the model has classes 0 to 2"
    ):
        model.loss([make_image()], [xt.open_image(np.full((150, 200, 1), 7, np.uint8))])
    with pytest.raises(ConfigError, match=r"halo must be a multiple of convnext_atto's last stride 32"):
        make_model(halo=20, **SEGMENTATION)
    with pytest.raises(ConfigError, match=r"answers about whole images"):
        next(iter(make_model(context="none").decode(make_image())))
    with pytest.raises(ConfigError, match=r"features must be"):
        Streaming(features="disk")


def test_what_an_answer_leans_on_is_what_it_changes_by():
    """Against differences: one token after the other is made a little smaller."""
    model = dense_model("segmentation").double()
    image = xt.open_image(scene(128, 128))
    dense = model.dense_pass(image)
    leaning = dense.leaned_on(0.3 * 64, 64 + 0.6 * 64)
    assert leaning.shape == (4 * 4,)
    with torch.no_grad():
        tokens = dense._map(model.region_encoder, dense.regions, "encode")
        batch = dense.regions[0]

        def said(tokens):
            context = dense._around(dense._mixed(tokens)).piece(1, 2)
            step = Decode(model.region_encoder, dense.head, True)
            return dense.head.said_at(step(batch.pixels[1:2], None, context)[0], 0.3, 0.6)

        changes = []
        for region in range(4):
            for token in range(4):
                smaller = tokens.clone()
                smaller[region, token] *= 1 - 1e-3
                changes.append(abs(float(said(tokens) - said(smaller))) / 1e-3)
    np.testing.assert_allclose(leaning.numpy(), changes, rtol=0.02, atol=0.005)
    assert leaning.min() >= 0
    assert leaning.max() > 2 * leaning.mean()
