"""No pixel of a region is lost: each changes the tokens and every feature map, or the region size is refused."""

import pytest
import torch

from tests.small_models import SMALL_ENCODERS
from xt import create_model
from xt.errors import ConfigError
from xt.region_encoders.timm import TimmEncoder

# As in `small_models`, for families that are only looked at here.
SMALL = SMALL_ENCODERS | {
    "vit_small_patch14_dinov2": {"embed_dim": 24, "depth": 3, "num_heads": 2},
    "eva02_tiny_patch14_224": {"embed_dim": 24, "depth": 3, "num_heads": 2},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 24)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 1, 2, 2)},
    "maxvit_rmlp_pico_rw_256": {"embed_dim": (32, 32, 32, 32), "depths": (1, 1, 1, 1), "stem_width": 8},
    "fastvit_t8": {"layers": (1, 1, 1, 1)},
}
# A family each; sizes that no stride divides are taken by those that pad.
QUICK = [
    *((name, 64) for name in SMALL_ENCODERS),
    ("test_vit", 64),
    ("vit_small_patch14_dinov2", 70),
    ("eva02_tiny_patch14_224", 56),
    ("resnet18", 70),
    ("test_efficientnet", 71),
    ("mobilenetv3_small_050", 64),
    ("pvt_v2_b0", 70),
    ("maxvit_rmlp_pico_rw_256", 64),
    ("fastvit_t8", 70),
]
# Each takes seconds.
THOROUGH = [
    *((name, 96) for name in SMALL_ENCODERS),
    *((name, 64) for name in ("mvitv2_tiny", "efficientnet_b0", "tf_efficientnet_lite0", "densenet121", "regnety_002")),
    *((name, 96) for name in ("hrnet_w18_small", "cs3darknet_focus_s", "xception41", "repvit_m0_9", "davit_tiny")),
    *((name, 70) for name in ("resnet50", "resnetv2_50x1_bit", "mobilenetv4_hybrid_medium", "nf_regnet_b0", "vgg11")),
    ("vit_tiny_patch16_224", 96),
    ("deit_tiny_patch16_224", 64),
    ("beit_base_patch16_224", 64),
    ("swinv2_tiny_window16_256", 128),
    ("swin_tiny_patch4_window7_224", 112),
]  # fmt: skip
REGIONS = 6


def pixels_without_influence(name, size, options=None, **settings):
    """How many there are, by the gradient of the tokens and of each feature map."""
    torch.manual_seed(0)
    options = SMALL.get(name) if options is None else options
    encoder = TimmEncoder(name, 16, region_size=size, options=options, pooling="mean", **settings).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            # Many a residual branch begins with a zero scale, which hides what it looks at.
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    # Several regions, as a ReLU or a maximum may be silent about a pixel once.
    pixels = torch.rand(REGIONS, 3, encoder.window_size, encoder.window_size, requires_grad=True)
    maps = encoder.feature_maps(pixels)
    counts = []
    for output in (encoder.project(encoder.pooled(maps[-1])), *maps):
        mixture = (output * torch.randn_like(output)).sum()
        influence = torch.autograd.grad(mixture, pixels, retain_graph=True)[0].abs().amax((0, 1))
        assert influence.isfinite().all()
        counts.append(int((influence == 0).sum()))
    return counts


@pytest.mark.parametrize(("name", "size"), QUICK)
def test_every_pixel_has_influence(name, size):
    assert not any(pixels_without_influence(name, size))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), THOROUGH)
def test_every_pixel_has_influence_in_more_networks(name, size):
    assert not any(pixels_without_influence(name, size))


@pytest.mark.parametrize("tokens", [9, 4, 1])
def test_every_pixel_has_influence_on_tokens_that_do_not_divide_the_map(tokens):
    assert not any(pixels_without_influence("convnext_atto", 160, tokens_per_region=tokens))


def test_every_pixel_of_region_and_halo_has_influence_on_the_maps():
    assert not any(pixels_without_influence("test_vit", 64, halo=16)[1:])


@pytest.mark.parametrize("side", range(1, 8))
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_every_cell_of_the_last_map_is_in_a_token(side, pooling):
    name = "convnext_atto"
    encoder = TimmEncoder(
        name, 16, region_size=224, tokens_per_region=side**2, pooling=pooling, options=SMALL_ENCODERS[name]
    )
    cells = torch.eye(49).view(49, 1, 7, 7)
    assert (encoder.pooled(cells) > 0).any(dim=1).all()


@pytest.mark.parametrize(
    ("name", "size", "below", "above"),
    [
        ("vit_small_patch14_dinov2", 256, 252, 266),
        ("vit_small_patch14_dinov2", 64, 56, 70),
        ("eva02_tiny_patch14_224", 100, 98, 112),
        ("convnext_atto", 70, 64, 96),
        ("convnextv2_atto", 95, 64, 96),
        ("convnext_atto", 97, 96, 128),
        ("swin_tiny_patch4_window7_224", 90, 64, 96),
        ("swinv2_tiny_window8_256", 65, 64, 96),
    ],
)
def test_a_region_size_that_would_lose_pixels_is_refused_with_those_that_fit(name, size, below, above):
    options = SMALL.get(name, {})
    with pytest.raises(
        ConfigError,
        match=rf"{name} would not see the last rows and columns of regions of {size} pixels.* region_size to "
        rf"{below} or {above}$",
    ):
        create_model(name, region_size=size, dim=16, encoder_options=options)
    for fitting in (below, above):
        TimmEncoder(name, 16, region_size=fitting, options=options)


@pytest.mark.parametrize(
    ("name", "size", "below", "above"), [("maxvit_rmlp_pico_rw_256", 70, 64, 96), ("test_vit", 70, 64, 80)]
)
def test_a_region_size_that_the_network_itself_refuses_is_one_sentence(name, size, below, above):
    with pytest.raises(
        ConfigError,
        match=rf"{name} cannot take regions of {size} pixels .* region_size to {below} or {above}$",
    ):
        TimmEncoder(name, 16, region_size=size, options=SMALL.get(name))
    TimmEncoder(name, 16, region_size=below, options=SMALL.get(name))


@pytest.mark.slow
def test_sizes_that_fit_are_tried_not_computed():
    # Its convolutions pad nothing: 299 fits, and no multiple of 32 near 100 does.
    with pytest.raises(
        ConfigError, match=r"inception_v4 would not see .* of 100 pixels.* do not divide them$"
    ):
        TimmEncoder("inception_v4", 16, region_size=100)


def test_a_region_smaller_than_the_first_patch_is_refused():
    with pytest.raises(ConfigError, match=r"regions of 10 pixels.* region_size to 14$"):
        TimmEncoder("vit_small_patch14_dinov2", 16, region_size=10, options=SMALL["vit_small_patch14_dinov2"])


def test_a_halo_counts_with_the_region():
    with pytest.raises(
        ConfigError, match=r"regions of 70 pixels with a halo of 16 .* region_size to 64 or 80$"
    ):
        TimmEncoder("test_vit", 16, region_size=70, halo=16)
