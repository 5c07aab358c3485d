"""The whole model: streamed against unstreamed, many sizes at once, saving and loading, and what is refused."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.small_models import small_model
from xt import RegionGrid, create_model, load_model, open_image
from xt.errors import CheckpointError, ConfigError, ImageError, PixelError, ShapeError
from xt.model.xt import Relevance
from xt.regions.sequences import as_sequences

EXACT = {"rtol": 1e-9, "atol": 1e-12}
FAMILIES = ["convnext_atto", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "hiera_tiny_224"]


def images_of(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [open_image(rng.random((*shape, 3))) for shape in shapes]


def gradients(model, images, **options):
    torch.manual_seed(5)
    model.zero_grad()
    loss = model.head.loss(model(images, **options), torch.arange(len(images)) % 3)
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("encoder", FAMILIES)
@pytest.mark.parametrize("context", ["transformer_xl", "full", "none"])
def test_streamed_gradients_are_the_unstreamed_ones(encoder, context):
    """With dropout and stochastic depth on, in float64, relative to each parameter's gradient norm."""
    options = {} if context == "none" else {"dropout": 0.2}
    model = small_model(encoder, context=context, context_options=options, head_options={"dropout": 0.2})
    model.double().train()
    with torch.no_grad():
        # Swin-V2 starts with norms of weight 0, behind which no gradient would be seen.
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = images_of((150, 200), (64, 64), (70, 130))
    streamed = gradients(model, images, region_batch=4)
    kept = gradients(model, images, region_batch=4, keep="all")
    for ours, theirs in zip(streamed, kept, strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm()
    assert all(gradient.norm() > 0 for gradient in streamed), "a parameter got no gradient"


def test_the_streamed_model_is_the_plain_composition_of_its_parts():
    model = small_model().double().eval()
    (image,) = images_of((128, 192))
    pixels = torch.from_numpy(image.read(0, 0, 128, 192)).permute(2, 0, 1)
    regions = pixels.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
    tokens = model.region_encoder(regions).flatten(0, 1)[None]
    corners = [(y, x) for y in (0, 64) for x in (0, 64, 128)]
    centres = [(y + dy, x + dx) for y, x in corners for dy in (16, 48) for dx in (16, 48)]
    context = model.context_encoder(tokens, torch.tensor([centres], dtype=torch.float64))
    torch.testing.assert_close(model(image), model.head(context)[0], **EXACT)


@pytest.mark.parametrize("order", ["raster", "serpentine", "hilbert"])
def test_region_batch_threads_and_company_change_no_result(order):
    model = small_model(order=order).double().eval()
    images = images_of((150, 200), (64, 64), (300, 70))
    expected = torch.cat([model(image, region_batch=1) for image in images])
    for region_batch in (2, 5, 100):
        torch.testing.assert_close(model(images, region_batch=region_batch), expected, **EXACT)


@pytest.mark.parametrize(("height", "width"), [(100, 90), (128, 64), (20, 200)])
def test_a_tensor_is_a_batch_of_images(height, width):
    model = small_model(foreground="tissue" if height == 20 else None).eval()
    tensor = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    arrays = [open_image(image.permute(1, 2, 0).numpy()) for image in tensor]
    torch.testing.assert_close(model(tensor, region_batch=3), model(arrays))
    torch.testing.assert_close(model(tensor[:1]), model(arrays[0]))


def test_an_image_smaller_than_a_region_is_padded():
    assert small_model().eval()(images_of((20, 30))).shape == (1, 3)


@pytest.mark.parametrize("context", ["transformer_xl", "full", "none"])
def test_a_pixel_reaches_another_region_through_context_only(context):
    model = small_model(context=context).double().eval()
    pixels = torch.rand(1, 3, 64, 256, dtype=torch.float64)
    other = pixels.clone()
    other[..., :64] = 0
    seen = []
    model.context_encoder.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(pixels), model(other)
    changed = (seen[0] - seen[1]).abs().amax(-1).flatten() > 1e-9
    assert changed[:4].all()
    assert changed[4:].all() == (context != "none")
    assert changed[4:].any() == (context != "none")


def test_relevance_tells_each_tokens_weight_and_place():
    model = small_model().eval()
    images = images_of((150, 200), (64, 64))
    logits, relevance = model(images, return_relevance=True)
    assert isinstance(relevance, Relevance)
    torch.testing.assert_close(logits, model(images))
    torch.testing.assert_close(relevance.weights.sum(1), torch.ones(2))
    assert relevance.mask.sum(1).tolist() == [48, 4]
    assert relevance.positions[1, :4].tolist() == [[16, 16], [16, 48], [48, 16], [48, 48]]
    assert (relevance.weights[1, 4:] == 0).all()


def test_only_the_given_regions_are_looked_at():
    model = small_model().eval()
    (image,) = images_of((128, 128))
    grid = RegionGrid(height=128, width=128, region_size=64, mask=np.array([[False, False], [False, True]]))
    elsewhere = image.read(0, 0, 128, 128)
    elsewhere[:64] = 0
    torch.testing.assert_close(model(image, grids=[grid]), model(open_image(elsewhere), grids=[grid]))
    _, relevance = model(image, grids=[grid], return_relevance=True)
    assert relevance.positions.amin() == 80


def test_progress_is_reported():
    seen = []
    model = small_model()
    model(images_of((128, 128)), region_batch=3, progress=lambda *step: seen.append(step)).sum().backward()
    assert seen == [("encode", 1, 2), ("encode", 2, 2), ("backward", 1, 2), ("backward", 2, 2)]


def test_positions_keep_their_pixels_in_half_precision():
    grid = RegionGrid(height=64, width=64 * 600, region_size=64)
    tokens = torch.zeros(600, 4, 8, dtype=torch.bfloat16)
    _, positions, _ = as_sequences(tokens, [grid], 2)
    assert positions.dtype == torch.float32
    assert positions[0, -1].tolist() == [48, 64 * 600 - 16]


def test_autocast_and_gradient_scaling_train():
    model = small_model(context="full")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.head.loss(model(images_of((128, 128))), torch.tensor([1]))
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("head", ["classification", "multilabel", "regression"])
def test_saved_and_loaded_it_is_the_same_model(tmp_path, head):
    model = small_model(
        head=head, class_names=["a", "b", "c"], pixel_mean=[0.1] * 3, pixel_std=[0.2] * 3
    ).eval()
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors").eval()
    image = images_of((100, 100))
    assert torch.equal(model(image), loaded(image))
    assert list(loaded.config.class_names) == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing\.safetensors cannot be read as a safetensors file"):
        load_model(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.safetensors cannot be read as a safetensors file"):
        load_model(tmp_path / "text.safetensors")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"other\.safetensors is a safetensors file, but not of an xt model"
    ):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dim": 64}, "are not those of the model it describes"),
        (
            {"invented": 1},
            r"model\.safetensors describes is not known here .*'model\.invented'.*another version of xt",
        ),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, changed, message):
    path = tmp_path / "model.safetensors"
    small_model().save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"]) | changed
    safetensors.torch.save_file(
        safetensors.torch.load_file(path), path, metadata | {"config": json.dumps(config)}
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ConfigError, match=r"no setting 'num_class' \(did you mean 'num_classes'\?\)"):
        create_model("convnext_atto", num_class=3)
    with pytest.raises(ConfigError, match="unknown context encoder 'transformerxl'"):
        small_model(context="transformerxl")
    with pytest.raises(ConfigError, match="num_classes is 3, but there are 2 class_names"):
        small_model(class_names=["a", "b"])
    with pytest.raises(ConfigError, match="must be at least 1"):
        small_model(num_classes=0)


def test_images_that_do_not_fit_are_refused():
    model = small_model()
    with pytest.raises(
        ShapeError, match=r"array 9x9x4 has 4 channels, the model takes 3: .* create it with in_channels=4"
    ):
        model(open_image(np.zeros((9, 9, 4), dtype=np.uint8)))
    with pytest.raises(ShapeError, match="expected at least one image"):
        model([])
    with pytest.raises(
        ShapeError, match=r"expected a tensor \(images, channels, height, width\), got \(3, 9, 9\)"
    ):
        model(torch.zeros(3, 9, 9))
    with pytest.raises(ConfigError, match="gradients reach the parameters, not the pixels"):
        model(torch.zeros(1, 3, 9, 9, requires_grad=True))
    with pytest.raises(PixelError, match="the tensor of images holds NaN or infinite values"):
        model(torch.full((1, 3, 9, 9), torch.nan))
    with pytest.raises(PixelError, match=r"NaN or infinite .* open it with nodata"):
        model(open_image(np.full((9, 9, 3), np.nan, dtype=np.float32)))


def test_one_path_or_array_is_one_image(tmp_path):
    model = small_model().eval()
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model(pixels).detach(), model([open_image(pixels)]).detach())
    with pytest.raises(ImageError, match=r"there is no file .*missing\.tif"):
        model(str(tmp_path / "missing.tif"))
    with pytest.raises(PixelError, match=r"integers or real floats, not torch\.complex64"):
        model(torch.zeros(1, 3, 9, 9, dtype=torch.complex64))


def test_grids_of_other_images_are_refused():
    model, pixels = small_model(), np.zeros((100, 100, 3), dtype=np.uint8)
    image, other = open_image(pixels), RegionGrid(height=300, width=200, region_size=64)
    with pytest.raises(ShapeError, match="each image needs its grid, got 1 images and 2 grids"):
        model(image, grids=[other, other])
    for given in (image, torch.from_numpy(pixels).permute(2, 0, 1)[None]):
        with pytest.raises(ShapeError, match="is 100 x 100 pixels, its grid is of an image of 300 x 200"):
            model(given, grids=[other])


def test_an_image_without_foreground_is_refused():
    model = small_model(foreground="nodata")
    empty = open_image(np.zeros((100, 100, 3), dtype=np.uint8), nodata=0)
    with pytest.raises(ImageError, match="has no foreground"):
        model(empty)


@pytest.fixture(scope="module")
def one_process_group(tmp_path_factory):
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_wrapped_for_data_parallel_training_it_is_the_same(one_process_group):
    model = small_model().double()
    images = images_of((128, 128))
    expected = gradients(model, images)
    wrapped = DistributedDataParallel(model)
    torch.manual_seed(5)
    model.zero_grad()
    model.head.loss(wrapped(images), torch.tensor([0])).backward()
    for parameter, gradient in zip(model.parameters(), expected[1:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **EXACT)
