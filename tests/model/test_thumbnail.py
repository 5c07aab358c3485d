"""The whole image in one region's size: before the sequence, told to every region, and exact in every mode."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
import torch.nn.functional as F
from torch import Tensor

import xt
from tests.data.features_of_others import some_features, write_trident
from tests.model.test_dense import SEGMENTATION, make_mask, make_model
from tests.small_model import small_model
from xt.cli.info_model import description
from xt.context_encoders import CONTEXT_ENCODERS
from xt.data.encoding import encode_image, open_for_encoding
from xt.data.feature_files import FeatureFile
from xt.errors import CheckpointError, ConfigError
from xt.heads.context_map import neighbouring_tokens
from xt.images import LargeImage, open_image
from xt.model.cases import Case
from xt.model.files import load_model
from xt.model.region_pass import RegionPass
from xt.model.thumbnail import thumbnails_of
from xt.model.xt import XT
from xt.prediction.predictor import Predictor
from xt.regions.pyramid_grid import PyramidGrid
from xt.streaming.map import Streaming

SIZE = 64
# A wide one, a tall one, one region, less than one.
SHAPES = ((150, 200), (310, 40), (64, 64), (40, 30))
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPES[seed], 3), dtype=np.uint8)


def images() -> list[LargeImage]:
    return [open_image(pixels(seed)) for seed in range(len(SHAPES))]


def thumbnail_model(**settings: Any) -> XT:
    """Whose thumbnail is heard: at the start it says nothing."""
    model = small_model(thumbnail=True, **({"context": "none"} | settings))
    return heard(model)


def heard(model: XT) -> XT:
    assert model.thumbnail is not None
    torch.manual_seed(1)
    torch.nn.init.normal_(model.thumbnail.tell.weight, std=0.3)
    torch.nn.init.normal_(model.thumbnail.tell.bias, std=0.3)
    return model


def shrunk_by_hand(image: np.ndarray) -> np.ndarray:
    """Means of blocks of the pixels that are there."""
    side = -(-max(image.shape[:2]) // SIZE)
    rows = [
        [image[y : y + side, x : x + side].mean((0, 1)) for x in range(0, image.shape[1], side)]
        for y in range(0, image.shape[0], side)
    ]
    return np.rint(np.array(rows)).astype(np.uint8)


def seen_by_hand(model: XT, image: LargeImage) -> tuple[Tensor, Tensor, Tensor]:
    """(4, D) tokens of the thumbnail, (regions, 4, D) tokens that were told of it, (4, 2) positions."""
    part = model.thumbnail
    assert part is not None
    side = max(1, -(-max(image.shape) // SIZE))
    small = open_image(shrunk_by_hand(image.read(0, 0, *image.shape)))
    (batch,) = RegionPass(model, [small], model.streaming).batches([xt.RegionGrid.from_image(small, SIZE)])
    tokens = model.region_encoder(*batch)[0] + part.mark
    said = part.norm(tokens).view(2, 2, -1)
    cell = side * SIZE / 2
    centres = torch.tensor([[y, x] for y in (0.5, 1.5) for x in (0.5, 1.5)]).double() * cell
    # Cells that begin inside the image.
    said = said[: 1 + (image.shape[0] > cell), : 1 + (image.shape[1] > cell)]
    middles = torch.from_numpy(model.grid(image).token_positions(1)).double()
    field = torch.tensor([said.shape[1], said.shape[0]]).double() * cell
    where = (2 * middles.flip(1) / field - 1)[None, :, None]
    near = F.grid_sample(said.permute(2, 0, 1)[None], where, padding_mode="border", align_corners=False)
    near = near[0, :, :, 0].T
    everything = torch.cat([near, said.flatten(0, 1).mean(0).expand_as(near)], 1)
    scale, shift = part.tell(everything).chunk(2, 1)
    batches = RegionPass(model, [image], model.streaming).batches([model.grid(image)])
    own = torch.cat([model.region_encoder(*each) for each in batches])
    return tokens, own * (1 + scale[:, None]) + shift[:, None], centres


def unstreamed(model: XT, cases: Sequence[Sequence[LargeImage]]) -> Tensor:
    rows = []
    for case in cases:
        tokens, positions = [], []
        for number, image in enumerate(case):
            whole, own, centres = seen_by_hand(model, image)
            assert model.which_image is None or number == 0
            tokens += [whole, own.flatten(0, 1)]
            positions += [centres, torch.from_numpy(model.grid(image).token_positions(2))]
        mixed = model.context_encoder(torch.cat(tokens)[None], torch.cat(positions)[None])
        rows.append(model.head(mixed)[0])
    return torch.cat(rows)


def gradients(model: XT, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("context", "keep"), [("none", "none"), ("none", "all"), ("mamba", "none")])
def test_streamed_gradients_are_those_of_one_graph(context: str, keep: Any) -> None:
    model = thumbnail_model(context=context).double()
    expected = unstreamed(model, [[image] for image in images()])
    wanted = gradients(model, expected)
    logits = model(images(), region_batch=3, keep=keep)
    torch.testing.assert_close(logits, expected, **EXACT)
    found = gradients(model, logits)
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, **EXACT)
    assert min(wanted[f"thumbnail.{name}"].abs().max() for name in ("mark", "tell.weight", "norm.bias")) > 0


def test_the_gradients_of_a_network_that_does_not_learn() -> None:
    model = thumbnail_model().double()
    model.region_encoder.freeze()
    expected = unstreamed(model, [[image] for image in images()])
    wanted = gradients(model, expected)
    found = gradients(model, model(images(), region_batch=3))
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, **EXACT)


@pytest.mark.parametrize("features", ["device", "none"])
@pytest.mark.parametrize("context", ["none", "mamba"])
def test_it_reaches_the_decoder_of_answers_about_places(context: str, features: Any) -> None:
    settings = {**SEGMENTATION, "encoder_options": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}}
    model = heard(make_model(context=context, thumbnail=True, **settings)).double()
    image, mask = open_image(pixels(0)), make_mask()
    grid = model.grid(image)
    maps = [
        torch.cat(parts)
        for parts in zip(
            *(
                model.region_encoder.feature_maps(*batch)
                for batch in RegionPass(model, [image], model.streaming).batches([grid])
            ),
            strict=True,
        )
    ]
    whole, own, centres = seen_by_hand(model, image)
    sequence = torch.cat([whole, own.flatten(0, 1)])[None]
    positions = torch.cat([centres, torch.from_numpy(grid.token_positions(2))])[None]
    rows = model.context_encoder(sequence, positions)[0, 4:]
    near = neighbouring_tokens([grid], 2, model.head.reach)
    predictions = model.head(maps, rows[torch.from_numpy(near)])
    target = torch.from_numpy(np.stack([model.head.region_target(mask, region) for region in grid]))
    twin = model.head.loss(model.head.statistics(predictions, target).sum(dim=0))
    model.streaming = Streaming(region_batch=5, features=features)
    loss = model.loss([image], [mask])
    assert loss.item() == pytest.approx(twin.item(), rel=1e-9)
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(loss, list(parameters.values()))
    theirs = torch.autograd.grad(twin, list(parameters.values()))
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **EXACT, msg=name)
    # Of images of several lengths each as alone.
    other = make_mask(90, 70)
    second = open_image(np.random.default_rng(9).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    with torch.no_grad():
        rows = model.eval().dense_pass(second).context()
        assert rows.shape == (16, 16)
        assert model.loss([image, second], [mask, other]).isfinite()


def test_a_far_place_is_heard_of_without_a_context_encoder() -> None:
    image = pixels(0)
    changed = image.copy()
    changed[100:, 150:] = 255 - changed[100:, 150:]
    model = thumbnail_model(head="segmentation", head_options={"width": 8}).eval()
    deaf = small_model(context="none", head="segmentation", head_options={"width": 8}).eval()
    for one, differs in ((model, True), (deaf, False)):
        with torch.no_grad():
            first, second = (next(one.decode(open_image(each))).predictions[0] for each in (image, changed))
        assert torch.equal(first, second) is not differs


def test_a_tensor_is_seen_as_the_image_is() -> None:
    model = thumbnail_model().eval()
    batch = np.stack([np.roll(pixels(0), shift) for shift in (0, 5)])
    with torch.no_grad():
        of_tensor = model(torch.from_numpy(batch).permute(0, 3, 1, 2))
        of_images = model([open_image(one) for one in batch])
    torch.testing.assert_close(of_tensor, of_images, rtol=1e-4, atol=1e-4)
    for dtype in (torch.float64, torch.int16, torch.bool):
        assert model.double()(torch.from_numpy(batch > 99).permute(0, 3, 1, 2).to(dtype)).isfinite().all()


def test_missing_pixels_have_no_part_in_it() -> None:
    image = pixels(0).astype(np.float32)
    image[:70, :90] = -1
    other = image.copy()
    other[:70, :90] = np.nan
    model = thumbnail_model().eval()
    with torch.no_grad():
        found = model([open_image(image, nodata=-1.0), open_image(other, nodata=float("nan"))])
        whole = model(open_image(image))
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], whole[0], atol=1e-4)


def test_what_it_reads_of_a_pyramid_is_its_coarse_level(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    path = tmp_path / "levels.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, tile=(64, 64), photometric="rgb", subifds=1)
        coarse = np.full((64, 64, 3), 77, np.uint8)
        writer.write(coarse, tile=(64, 64), photometric="rgb", subfiletype=1)
    with open_image(path) as opened:
        (small,), (grid,) = thumbnails_of([opened], [small_model().grid(opened)])
        assert len(grid) == 1
        assert (small.read(0, 0, 64, 64) == 77).all()


@pytest.mark.parametrize("context", sorted(CONTEXT_ENCODERS))
def test_images_of_any_length_beside_others_are_as_alone(context: str) -> None:
    model = thumbnail_model(context=context, case_images=4).double().eval()
    a, b, c, d = images()
    with torch.no_grad():
        together = model([Case([a, b, c]), d, Case([b])])
        alone = torch.cat([model(Case([a, b, c])), model(d), model([b])])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_a_case_has_the_thumbnail_of_each_of_its_images() -> None:
    model = thumbnail_model(context="full", context_options={"depth": 1}, case_images=2).double().eval()
    a, b, *_ = images()
    assert model.which_image is not None
    model.which_image.weight.data.zero_()
    with torch.no_grad():
        (alone_a, alone_b) = (seen_by_hand(model, image) for image in (a, b))
        tokens = torch.cat([part.reshape(-1, 32) for one in (alone_a, alone_b) for part in one[:2]])
        grids = [torch.from_numpy(model.grid(image).token_positions(2)) for image in (a, b)]
        positions = torch.cat([alone_a[2], grids[0], alone_b[2], grids[1]])
        expected = model.head(model.context_encoder(tokens[None], positions[None]))[0]
        torch.testing.assert_close(model(Case([a, b])), expected, **EXACT)


def test_relevance_leaves_it_out_and_says_so() -> None:
    model = thumbnail_model().eval()
    a, b, *_ = images()
    with torch.no_grad():
        logits, relevance = model([a, b], return_relevance=True)
    assert relevance.thumbnail is not None
    assert relevance.mask is not None
    assert relevance.thumbnail.sum(1).tolist() == [4, 4]
    assert relevance.thumbnail[:, :4].all()
    torch.testing.assert_close(
        relevance.positions[0, 4:], torch.from_numpy(model.grid(a).token_positions(2)).float()
    )
    # Cells of 128 pixels: the region is 4 times as large as those of the image.
    assert relevance.positions[0, :4].tolist() == [[64, 64], [64, 192], [192, 64], [192, 192]]
    found = Predictor(model, "cpu", keep_tokens=True).predict(a)
    torch.testing.assert_close(torch.from_numpy(found.logits), logits[0].double(), rtol=1e-5, atol=1e-6)
    assert found.images[0].thumbnail == pytest.approx(float(relevance.weights[0, :4].sum()), rel=1e-4)
    assert found.weights.sum() + found.images[0].thumbnail == pytest.approx(1)
    assert found.relevance.values.shape == (5, 7)
    assert found.images[0].tokens is not None
    assert found.images[0].tokens.shape == (len(found.weights), 32)
    without = Predictor(small_model().eval(), "cpu").predict(a)
    assert without.images[0].thumbnail is None


def test_a_saved_model_looks_at_it(tmp_path: Path) -> None:
    model = thumbnail_model().eval()
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(loaded(images()), model(images()))
    said = dict(description(tmp_path / "m.safetensors"))
    assert said["thumbnail"] == "the whole image in one region's size, before its tokens"


def test_without_it_a_model_has_nothing_of_it() -> None:
    plain, model = small_model().eval(), small_model(thumbnail=True).eval()
    assert not [name for name in plain.state_dict() if "thumbnail" in name]
    assert plain.thumbnail_tokens == 0
    with torch.no_grad():
        _, relevance = plain(images(), return_relevance=True)
    assert relevance.thumbnail is None
    # What all have in common begins with the same weights, and at first nothing is told.
    others = model.state_dict()
    assert all(
        torch.equal(value, others[name]) for name, value in plain.state_dict().items() if "head" not in name
    )


def test_photographs_have_one_of_their_square() -> None:
    model = thumbnail_model(image_size=128).eval()
    photo = open_image(pixels(0))
    with torch.no_grad():
        _, relevance = model(photo, return_relevance=True)
    assert relevance.weights.shape == (1, 4 + 4 * 4)
    assert relevance.positions[0, 3].tolist() == [96, 96]


def test_planning_counts_it() -> None:
    plain, model = small_model(context="none"), small_model(context="none", thumbnail=True)
    before, after = (xt.plan(each, (640, 900), "2GB") for each in (plain, model))
    assert after.tokens == before.tokens + 4
    assert after.inference.peak_bytes > before.inference.peak_bytes


def test_a_store_has_it(tmp_path: Path) -> None:
    model, plain = thumbnail_model().eval(), small_model(context="none").eval()
    paths = [tmp_path / f"{seed}.tif" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        tifffile.imwrite(path, pixels(seed), photometric="rgb")
    with open_for_encoding(tmp_path / "s.zarr", model, dtype="float32", views=4) as store:
        for path in paths:
            encode_image(store, model, path)
    opened, stored = [open_image(path) for path in paths], [store.image(path) for path in paths]
    with torch.no_grad():
        torch.testing.assert_close(model(stored), model(opened), rtol=1e-4, atol=1e-4)
        flipped = [image.flip("x") for image in stored], [image.flip("x") for image in opened]
        torch.testing.assert_close(*map(model, flipped), rtol=1e-4, atol=1e-4)
        # What looks at none finds its own there, too.
        torch.testing.assert_close(plain(stored), plain(opened), rtol=1e-4, atol=1e-4)
    store.check_encoder(model)
    store.check_encoder(plain)
    with open_for_encoding(tmp_path / "plain.zarr", plain) as other:
        encode_image(other, plain, paths[0])
    with pytest.raises(
        CheckpointError, match=r"plain\.zarr was encoded without thumbnails, at which the model looks"
    ):
        other.check_encoder(model)
    with pytest.raises(
        ConfigError, match=r"0\.tif was encoded without its thumbnail, .* leave model\.thumbnail out"
    ):
        model(other.image(paths[0]))


def test_features_of_others_have_none(tmp_path: Path) -> None:
    model = xt.create_model("features", encoder_options={"width": 12}, dim=32, num_classes=3, thumbnail=True)
    path = write_trident(tmp_path / "slide.h5", some_features(4), np.arange(8).reshape(4, 2) * 256)
    with pytest.raises(ConfigError, match=r"slide.* was encoded without its thumbnail"):
        model(FeatureFile(path))


def test_a_detector_s_backbone_has_no_use_for_it() -> None:
    with pytest.raises(ConfigError, match="detection_backbone has no setting 'thumbnail'"):
        xt.detection_backbone("convnext_atto", thumbnail=True)


def test_regions_of_several_scales_are_told_at_their_middles() -> None:
    model = thumbnail_model(regions="by_content", levels=2, regions_options={"budget": 8}).double().eval()
    image = open_image(pixels(0))
    grid = model.grid(image)
    assert isinstance(grid, PyramidGrid)
    assert set(grid.places[:, 0]) == {1, 2}
    whole, own, _ = seen_by_hand(model, image)
    assert model.which_scale is not None
    with torch.no_grad():
        expected = model.head(torch.cat([whole, own.flatten(0, 1)])[None])[0]
        torch.testing.assert_close(model(image), expected, **EXACT)
    found = Predictor(model, "cpu").predict(image)
    assert found.weights.shape == (4 * len(grid),)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_predictions_say_its_share(tmp_path: Path) -> None:
    thumbnail_model().save(tmp_path / "m.safetensors")
    tifffile.imwrite(tmp_path / "a.tif", pixels(0), photometric="rgb")
    xt.predict(
        tmp_path / "m.safetensors", [tmp_path / "a.tif"], tmp_path / "found", device="cpu", overlay=False
    )
    (row,) = csv.DictReader((tmp_path / "found" / "predictions.csv").read_text().splitlines())
    with rasterio.open(tmp_path / "found" / "a.relevance.tif") as file:
        assert file.tags()["XT_THUMBNAIL_SHARE"] == row["thumbnail"]
        assert np.nanmean(file.read(1)) == pytest.approx(1, rel=0.2)
    assert 0 < float(row["thumbnail"]) < 1
