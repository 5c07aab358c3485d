"""Boxes streamed: the same losses, gradients and answers as in one piece, and a plan of what it takes."""

import numpy as np
import pytest
import torch

import xt
from tests.model.test_dense import assert_same_gradients, make_image, make_model, unstreamed_loss
from xt.errors import PixelError
from xt.heads import BoxTable
from xt.streaming.map import Streaming

DETECTION = {"head": "detection", "num_classes": 3, "head_options": {"width": 8}}


def make_boxes(height: int = 150, width: int = 200, count: int = 20) -> BoxTable:
    """From a few pixels to larger than a region, some of them crowds."""
    rng = np.random.default_rng(3)
    centres = rng.uniform(0, (height, width), (count, 2))
    sides = 2 ** rng.uniform(2, 7.5, (count, 2))
    edges = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    crowd = np.arange(count) == 4
    return BoxTable.of(edges, rng.integers(0, 3, count), crowd=crowd).clipped(height, width)


def streamed_and_not(model: xt.XT, images: list, targets: list, region_batch: int) -> tuple:
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    return model.loss(images, targets), unstreamed_loss(model, images, targets, region_batch, seed)


@pytest.mark.parametrize("features", ["device", "host", "none"])
@pytest.mark.parametrize("context", ["none", "transformer_xl"])
def test_losses_and_gradients_equal_those_in_one_piece(context, features):
    images = [make_image(), make_image(90, 70), make_image(40, 130)]
    targets = [make_boxes(), make_boxes(90, 70, 8), BoxTable.empty()]
    model = make_model(halo=32, context=context, **DETECTION)
    model.streaming = Streaming(region_batch=4, features=features)
    assert_same_gradients(model, *streamed_and_not(model, images, targets, 4))


@pytest.mark.parametrize("keep", ["none", "all"])
def test_levels_of_64_pixels_a_cell_are_streamed_too(keep):
    model = make_model(region_size=512, context="full", **DETECTION)
    assert [level.stride for level in model.head.cells.levels] == [8, 16, 32, 64, 256]
    model.streaming = Streaming(region_batch=1, features="host", keep=keep)
    images, targets = [make_image(300, 700)], [make_boxes(300, 700)]
    assert_same_gradients(model, *streamed_and_not(model, images, targets, 1))


def test_the_loss_of_an_image_does_not_depend_on_the_region_batch():
    model = make_model(halo=32, context="full", **DETECTION).eval()
    losses = []
    for region_batch in (1, 5, 100):
        model.streaming = Streaming(region_batch=region_batch, features="none")
        losses.append(model.loss([make_image()], [make_boxes()]).item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)


def test_decoding_in_batches_equals_decoding_at_once():
    model = make_model(halo=32, context="full", **DETECTION).eval()
    model.head.score_threshold = 0.0
    model.streaming = Streaming(region_batch=100)
    (whole,) = model.decode(make_image())
    model.streaming = Streaming(region_batch=5)
    parts = list(model.decode(make_image()))
    assert [region for part in parts for region in part.regions] == whole.regions
    tables = [table for part in parts for table in part.predictions]
    assert len(tables) == len(whole.predictions) == 12
    for table, expected in zip(tables, whole.predictions, strict=True):
        np.testing.assert_allclose(table.scores, expected.scores, rtol=1e-5)
        np.testing.assert_allclose(table.edges, expected.edges, atol=1e-3)


def test_with_a_halo_wide_enough_the_cells_of_a_region_see_what_those_of_the_whole_image_see():
    # Two stages, the pyramid and the towers look at most 12 + 24 + 8 + 16 pixels far.
    options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16), "out_indices": (0, 1)}
    settings = {"context": "none", "encoder_options": options, "tokens_per_region": 1, "dim": 8} | DETECTION
    image = make_image(160, 224)
    torch.manual_seed(0)
    small = xt.create_model("convnext_atto", region_size=32, halo=96, **settings).double().eval()
    large = xt.create_model("convnext_atto", region_size=224, halo=96, **settings).double().eval()
    large.load_state_dict(
        {name: value for name, value in small.state_dict().items() if name != "head.scales"}, strict=False
    )

    def finest(model: xt.XT, halo: int) -> dict[tuple[int, int], torch.Tensor]:
        """What is said about each cell of 8 pixels, by its place in the image."""
        grid = model.grid(image)
        ((pixels, valid),) = xt.RegionReader([image], [grid], region_batch=100, halo=halo)
        answers = model.head(model.region_encoder.feature_maps(pixels, valid))
        side = grid.region_size // 8
        return {
            (region.y + 8 * (n // side), region.x + 8 * (n % side)): answer[:, n]
            for region, answer in zip(grid, answers, strict=True)
            for n in range(side**2)
        }

    with torch.no_grad():
        whole, parts = finest(large, 96), finest(small, 96)
        no_halo = xt.create_model("convnext_atto", region_size=32, **settings).double().eval()
        no_halo.load_state_dict(small.state_dict())
        blind = finest(no_halo, 0)
    assert len(parts) == 20 * 28
    for place, answer in parts.items():
        torch.testing.assert_close(answer, whole[place], rtol=1e-9, atol=1e-9)
    # Else the comparison above would show nothing.
    assert any(not torch.allclose(blind[place], whole[place], rtol=1e-3) for place in parts)


def test_damaged_weights_do_not_answer():
    model = make_model(context="none", **DETECTION).eval()
    torch.nn.init.constant_(model.head.predict.bias, float("nan"))
    with pytest.raises(PixelError, match=r"for array 150x200x3 is not a number near y=0, x=0"):
        next(iter(model.decode(make_image())))


def test_a_model_of_boxes_is_saved_and_loaded(tmp_path):
    model = make_model(context="full", halo=32, **DETECTION).float().eval()
    model.head.score_threshold = 0.0
    model.save(tmp_path / "model.safetensors")
    loaded = xt.load_model(tmp_path / "model.safetensors").eval()
    loaded.head.score_threshold = 0.0
    answers = []
    for each in (model, loaded):
        each.streaming = Streaming(region_batch=100)
        (whole,) = each.decode(make_image())
        answers.append(BoxTable.concatenate(whole.predictions))
    assert len(answers[0]) > 100
    np.testing.assert_array_equal(answers[0].edges, answers[1].edges)
