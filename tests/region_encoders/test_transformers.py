"""Networks of the transformers library: the tokens that it gives itself, from hub, folder, kind or module."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xt
from tests.region_encoders.test_sources import OWNER, REVISION, cache, in_cache, refusing_hub  # noqa: F401
from xt.errors import ConfigError, DataWarning
from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.hub import refuse_what_cannot_be_fetched
from xt.region_encoders.trained import parse_trained
from xt.region_encoders.transformers import TransformersEncoder
from xt.testing.region_encoders import RegionEncoderContract

transformers = pytest.importorskip("transformers")

THIN: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 96}
PLAIN = THIN | {"intermediate_size": 48, "patch_size": 16}
STAGES: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "image_size": 128,
}
WIDTHS: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 12, 16, 24]}
# By kind: a size of regions that is not what it was made for, and the options that make it small.
KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "dinov2": (56, THIN | {"patch_size": 14, "image_size": 98, "drop_path_rate": 0.3}),
    "dinov2_with_registers": (56, THIN | {"patch_size": 14, "image_size": 98, "drop_path_rate": 0.3}),
    "dinov3_vit": (64, PLAIN | {"num_register_tokens": 4, "drop_path_rate": 0.3}),
    "vit": (64, PLAIN | {"hidden_dropout_prob": 0.2}),
    "deit": (64, PLAIN | {"hidden_dropout_prob": 0.2}),
    "beit": (64, PLAIN | {"hidden_dropout_prob": 0.2, "use_relative_position_bias": True}),
    "vit_msn": (64, PLAIN | {"hidden_dropout_prob": 0.2}),
    "ijepa": (64, PLAIN | {"hidden_dropout_prob": 0.2}),
    "clip_vision_model": (64, PLAIN | {"attention_dropout": 0.2}),
    "siglip_vision_model": (64, PLAIN | {"attention_dropout": 0.2}),
    "swin": (64, STAGES | {"window_size": 2, "drop_path_rate": 0.3}),
    "swinv2": (64, STAGES | {"window_size": 2, "drop_path_rate": 0.3}),
    "hiera": (64, STAGES | {"image_size": [128, 128], "drop_path_rate": 0.3}),
    "convnext": (64, WIDTHS | {"drop_path_rate": 0.3}),
    "dinov3_convnext": (64, WIDTHS | {"drop_path_rate": 0.3}),
    "pvt_v2": (
        64,
        WIDTHS | {"hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2], "drop_path_rate": 0.3},
    ),
}  # fmt: skip
WITH_CLASS = (
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "deit",
    "beit",
    "vit_msn",
    "clip_vision_model",
)
FAST = ("dinov2_with_registers", "vit", "swin", "hiera")
EACH = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in KINDS]
)


def encoder_of(kind: str, **settings: Any) -> TransformersEncoder:
    torch.manual_seed(0)
    size, options = KINDS[kind]
    return TransformersEncoder(
        f"transformers:{kind}", 8, **({"region_size": size, "options": options} | settings)
    )


def regions(encoder: RegionEncoder, count: int = 2) -> Tensor:
    size = encoder.window_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (count, encoder.in_channels, size, size), generator=generator, dtype=torch.uint8
    )


def librarys_own(encoder: TransformersEncoder, scaled: Tensor) -> Tensor:
    """What the library's model says of pixels, with the encoder's weights."""
    configuration = encoder.network.model.config
    model = transformers.AutoModel.from_config(configuration).eval().to(scaled.dtype)
    problems = model.load_state_dict(encoder.network.model.state_dict(), strict=False)
    assert not problems.unexpected_keys
    given = {"interpolate_pos_encoding": True} if encoder.network.resamples else {}
    with torch.no_grad():
        last: Tensor = model(scaled, **given).last_hidden_state
        norm = {"clip_vision_model": "post_layernorm"}.get(configuration.model_type)
        return last if norm is None else model.get_submodule(norm)(last)


class OfTransformers(RegionEncoderContract):
    kind: str
    halo = 28

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        size, options = KINDS[self.kind]
        return TransformersEncoder(
            f"transformers:{self.kind}", dim, region_size=size, options=options, **settings
        )


class TestDinov2WithRegisters(OfTransformers):
    kind = "dinov2_with_registers"


class TestViT(OfTransformers):
    kind = "vit"
    halo = 32


class TestSwin(OfTransformers):
    kind = "swin"
    halo = 32


class TestHiera(OfTransformers):
    kind = "hiera"
    halo = 32


@EACH
def test_tokens_are_the_librarys_own(kind: str) -> None:
    encoder = encoder_of(kind).double().eval()
    pixels = regions(encoder)
    last = librarys_own(encoder, encoder.scaling(pixels))
    with torch.no_grad():
        features, maps = encoder.features_and_maps(pixels)
    cells = (
        last.flatten(2).transpose(1, 2) if last.dim() == 4 else last[:, last.shape[1] - features.shape[1] :]
    )
    torch.testing.assert_close(features, cells)
    assert encoder.strides == (
        [14] if "dinov2" in kind else [16] if encoder.network.patch == 16 else [4, 8, 16, 32]
    )
    assert [features.shape[-1] * stride for features, stride in zip(maps, encoder.strides, strict=True)] == [
        encoder.region_size
    ] * len(maps)
    if kind in WITH_CLASS:
        said = encoder_of(kind, readout="class").double().eval().features(pixels)
        both = encoder_of(kind, readout="class_and_mean").double().eval().features(pixels)
        torch.testing.assert_close(said, last[:, :1])
        torch.testing.assert_close(both, torch.cat([last[:, :1], cells.mean(1, keepdim=True)], dim=-1))


@EACH
def test_every_pixel_has_influence_on_the_cell_that_it_lies_in(kind: str) -> None:
    encoder = encoder_of(kind).double().eval()
    with torch.no_grad():
        for parameter in encoder.network.parameters():
            if parameter.dim() <= 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    pixels = torch.rand(
        3, 3, encoder.window_size, encoder.window_size, dtype=torch.float64, requires_grad=True
    )
    for features in encoder.feature_maps(pixels):
        mixture = (features * torch.randn_like(features)).sum()
        influence = torch.autograd.grad(mixture, pixels, retain_graph=True)[0].abs().amax((0, 1))
        assert influence.all()
    # Where a cell lies: what changes in a corner changes a cell near it the most.
    still = pixels.detach()
    for y, x in ((0, 0), (0, -1), (-1, 0)):
        changed = still.clone()
        rows = slice(0, 8) if y == 0 else slice(-8, None)
        columns = slice(0, 8) if x == 0 else slice(-8, None)
        changed[..., rows, columns] += 0.5
        with torch.no_grad():
            for before, after in zip(encoder.feature_maps(still), encoder.feature_maps(changed), strict=True):
                change = (after - before).abs().sum((0, 1))
                row, column = divmod(int(change.argmax()), len(change))
                assert (row >= len(change) // 2, column >= len(change) // 2) == (y < 0, x < 0)


@EACH
def test_nothing_is_left_that_would_never_learn(kind: str) -> None:
    encoder = encoder_of(kind, readout="class_and_mean" if kind in WITH_CLASS else None)
    sum(features.sum() for features in encoder.feature_maps(regions(encoder))).backward()
    encoder(regions(encoder)).sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit", "swin", "hiera", "convnext", "clip_vision_model"])
def test_adapters_stand_beside_its_layers(kind: str) -> None:
    pytest.importorskip("peft")
    encoder = encoder_of(kind)
    before = {name: value.clone() for name, value in encoder.network.named_parameters()}
    encoder.adapt(parse_trained("lora:2"))
    learning = [name for name, parameter in encoder.network.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    if kind != "convnext":
        assert all("attn" in name or "attention" in name for name in learning)
    encoder(regions(encoder)).sum().backward()
    after = dict(encoder.network.named_parameters())
    assert all(after[name].grad is not None for name in learning if "lora_B" in name)
    assert len(before) + len(learning) == len(after)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved_in(tmp_path / "dinov2-tiny")


def saved_in(folder: Path, kind: str = "dinov2") -> Path:
    """As the library lays models down, with its statistics of pixels."""
    torch.manual_seed(5)
    options = KINDS[kind][1]
    configuration = transformers.AutoConfig.for_model(kind, **options)
    transformers.AutoModel.from_config(configuration).save_pretrained(folder)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def same_as_the_librarys(encoder: TransformersEncoder, folder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = regions(encoder)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    with torch.no_grad():
        last = model((pixels / 255 - mean) / std).last_hidden_state
        torch.testing.assert_close(encoder.features(pixels), last[:, 1:], rtol=0, atol=1e-5)


def test_a_folder_gives_the_librarys_own_tokens(folder: Path) -> None:
    for size in (None, 56):
        encoder = TransformersEncoder(f"transformers:{folder}", 8, region_size=size, pretrained=True).eval()
        assert encoder.region_size == (size or 98)
        same_as_the_librarys(encoder, folder)


@EACH
def test_weights_are_loaded_at_another_size(kind: str, tmp_path: Path) -> None:
    folder = saved_in(tmp_path / "model", kind)
    encoder = TransformersEncoder(
        f"transformers:{folder}", 8, region_size=KINDS[kind][0], pretrained=True
    ).eval()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    theirs, ours = dict(model.named_parameters()), dict(encoder.network.model.named_parameters())
    assert ours
    assert all(
        torch.equal(ours[name], theirs[name]) for name in ours if ours[name].shape == theirs[name].shape
    )
    others = [name for name in ours if ours[name].shape != theirs[name].shape]
    assert others == (["embeddings.position_embeddings"] if kind == "hiera" else [])


@pytest.mark.parametrize("kind", ["dinov2", "hiera"])
def test_weights_of_three_channels_are_for_others_by_name(kind: str, tmp_path: Path) -> None:
    folder = saved_in(tmp_path / "model", kind)
    bands = Bands(("nir", "blue", "green", "red"), 4, RGB)
    settings: dict[str, Any] = {"region_size": KINDS[kind][0], "pretrained": True}
    encoder = TransformersEncoder(f"transformers:{folder}", 8, in_channels=4, bands=bands, **settings)
    three = TransformersEncoder(f"transformers:{folder}", 8, **settings)
    ours, theirs = (
        next(value for value in each.network.parameters() if value.dim() == 4) for each in (encoder, three)
    )
    mean = theirs.mean(1, keepdim=True)
    torch.testing.assert_close(ours, torch.cat([mean, theirs.flip(1)], dim=1) * 0.75)
    assert encoder.scaling.mean.tolist() == pytest.approx([0.2, 0.3, 0.2, 0.1])


def test_the_hubs_cache_is_enough(cache: Path) -> None:  # noqa: F811
    saved_in(in_cache(cache))
    encoder = TransformersEncoder(f"transformers:{OWNER}", 8, region_size=56, pretrained=True).eval()
    same_as_the_librarys(encoder, cache / f"models--{OWNER.replace('/', '--')}/snapshots/{REVISION}")
    origin = encoder.origin
    assert origin is not None
    assert (origin["repository"], origin["revision"], origin["file"]) == (
        OWNER,
        REVISION,
        "model.safetensors",
    )


def test_a_card_says_the_readout(cache: Path) -> None:  # noqa: F811
    saved_in(in_cache(cache, "owkin/phikon-v2"))
    settings: dict[str, Any] = {"region_size": 56, "pretrained": True}
    assert TransformersEncoder("transformers:owkin/phikon-v2", 8, **settings).readout == "class"
    assert (
        TransformersEncoder("transformers:owkin/phikon-v2", 8, tokens_per_region=4, **settings).readout
        == "patches"
    )


def test_a_model_says_where_it_is_from_and_is_made_again_without_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xt.cli.main import main

    model = xt.create_model(
        f"transformers:{folder}", pretrained=True, region_size=56, dim=16, context="none"
    ).eval()
    model.save(tmp_path / "model.safetensors")
    for file in folder.iterdir():
        file.unlink()
    again = xt.load_model(tmp_path / "model.safetensors").eval()
    image = xt.open_image(np.random.default_rng(0).integers(0, 256, (130, 100, 3), np.uint8))
    assert torch.equal(again(image), model(image))
    assert main(["info", str(tmp_path / "model.safetensors")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(dinov2)" in said
    assert "model.safetensors, sha256" in said


@pytest.mark.parametrize("kind", ["dinov2_with_registers", "swin", "hiera"])
def test_a_module_of_the_library_is_given_as_it_is(kind: str, tmp_path: Path) -> None:
    size, options = KINDS[kind]
    options = options | ({"image_size": [64, 64]} if kind == "hiera" else {})
    torch.manual_seed(0)
    configuration = transformers.AutoConfig.for_model(kind, **options)
    for kind_of in (transformers.AutoModel, transformers.AutoModelForImageClassification):
        module = kind_of.from_config(configuration)
        model = xt.create_model(module, region_size=size, dim=16, context="none").eval()
        assert isinstance(model.region_encoder, TransformersEncoder)
        assert model.config.encoder == f"transformers:{kind}"
        model.save(tmp_path / "model.safetensors")
        again = xt.load_model(tmp_path / "model.safetensors").eval()
        image = xt.open_image(np.random.default_rng(0).integers(0, 256, (130, 100, 3), np.uint8))
        assert torch.equal(again(image), model(image))


def test_a_backbone_of_the_library_is_a_module_like_others() -> None:
    options = KINDS["swin"][1] | {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    backbone = transformers.SwinBackbone(transformers.SwinConfig(**options))
    model = xt.create_model(backbone, region_size=128, dim=16, head="segmentation", head_options={"width": 8})
    assert (model.region_encoder.strides, model.region_encoder.feature_dims) == (
        [4, 8, 16, 32],
        [8, 16, 32, 64],
    )


@pytest.mark.parametrize("kind", FAST)
def test_dense_heads_take_its_maps(kind: str) -> None:
    size, options = KINDS[kind]
    model = xt.create_model(f"transformers:{kind}", region_size=size, dim=16, encoder_options=options,
                            head="segmentation", head_options={"width": 8})  # fmt: skip
    image = xt.open_image(np.zeros((100, 130, 3), np.uint8))
    model.loss([image], [xt.open_image(np.zeros((100, 130, 1), np.uint8))]).backward()
    assert all(parameter.grad is not None for parameter in model.region_encoder.network.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bert", {}, "transformers:bert is no network of images: BertModel takes input_ids"),
        ("dinov7", {}, r"expected transformers:OWNER/NAME .* such as transformers:dinov2; there is no such folder"),
        ("/nowhere/at/all", {}, "there is no such folder"),
        ("dinov2", {"pretrained": True}, "names a kind of network and no weights: name a repository"),
        ("dinov2", {"options": {"hiden_size": 4}}, r"'hiden_size', which dinov2 does not \(did you mean 'hidden_size'"),
        ("dinov2", {"options": {"attn_implementation": "a/b"}}, "has 'attn_implementation', which dinov2 does not"),
        ("dinov2", {"options": {"num_hidden_layers": 10**9}}, "must be at most 16384"),
        ("dinov2", {"options": {"num_attention_heads": "many"}}, "not a configuration of dinov2 .*num_attention_heads"),
        ("vit", {"options": PLAIN, "region_size": 70}, r"regions of 70 pixels.* set region_size to 64 or 80$"),
        ("dinov2", {"options": KINDS["dinov2"][1], "region_size": 64}, r"set region_size to 56 or 70$"),
        ("swin", {"options": STAGES | {"window_size": 4}, "region_size": 64}, "of 64 pixels.* set region_size to 128$"),
        ("yolos", {"options": PLAIN | {"image_size": [64, 64]}, "region_size": 64}, "nobody knows which lie where"),
        ("ijepa", {"options": PLAIN, "region_size": 64, "readout": "class"}, "takes the class token, and .* has none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TransformersEncoder(f"transformers:{name}", 8, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "cannot be read"),
        ("[]", "does not hold keys and values"),
        ("{}", "names no model_type"),
        ('{"architecture": "vit_tiny"}', "is one of timm's: call it hf-hub:OWNER/NAME or local-dir:PATH"),
        ('{"model_type": "hibou", "auto_map": {"AutoModel": "modeling.Hibou"}}', "runs code of its repository"),
        ('{"model_type": "vit_of_2031"}', "'vit_of_2031', which transformers .* lacks; a newer may have it"),
    ],
)  # fmt: skip
def test_folders_that_hold_no_model_of_the_librarys(folder: Path, said: str, message: str) -> None:
    (folder / "config.json").write_text(said)
    (folder / "modeling.py").write_text("raise RuntimeError('was run')")
    with pytest.raises(ConfigError, match=message):
        TransformersEncoder(f"transformers:{folder}", 8)


def test_weights_of_something_else_are_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"holds in another shape .* of its tensors, such as .*check encoder_options"
    ):
        TransformersEncoder(
            f"transformers:{folder}", 8, pretrained=True, region_size=56, options={"hidden_size": 48}
        )
    with pytest.raises(ConfigError, match=r"lacks .* of its tensors"):
        TransformersEncoder(
            f"transformers:{folder}", 8, pretrained=True, region_size=56, options={"num_hidden_layers": 3}
        )
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ConfigError, match=r"model.safetensors holds no weights of .* that can be loaded"):
        TransformersEncoder(f"transformers:{folder}", 8, pretrained=True, region_size=56)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has none of model.safetensors, "):
        TransformersEncoder(f"transformers:{folder}", 8, pretrained=True)


def test_no_network_is_one_sentence(cache: Path) -> None:  # noqa: F811
    message = (
        rf"weights of transformers:{OWNER} are not on this machine, and 127\.0\.0\.1:9 cannot be reached"
    )
    with pytest.raises(ConfigError, match=message):
        TransformersEncoder(f"transformers:{OWNER}", 8)
    with pytest.raises(ConfigError, match=message):
        refuse_what_cannot_be_fetched(f"transformers:{OWNER}")
    refuse_what_cannot_be_fetched("transformers:dinov2")


def test_a_gated_repository_is_one_sentence(refusing_hub: Any) -> None:  # noqa: F811
    with pytest.raises(
        ConfigError, match=r"given only to those whom its owners let in: ask them on .*someone/small"
    ):
        TransformersEncoder(f"transformers:{OWNER}", 8, pretrained=True)


def test_unknown_statistics_are_said(cache: Path) -> None:  # noqa: F811
    (saved_in(in_cache(cache)) / "preprocessor_config.json").unlink()
    with pytest.warns(
        DataWarning, match="its preprocessor_config.json is not on this machine and 127.0.0.1:9 cannot"
    ):
        TransformersEncoder(f"transformers:{OWNER}", 8, region_size=56)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"which is not installed: pip install 'xt-vision\[transformers\]'"):
        TransformersEncoder("transformers:dinov2", 8)
    # Other modules do not need it.
    assert xt.create_model(nn.Conv2d(3, 8, 8, 8), region_size=32, dim=8).region_encoder.strides == [8]


def test_it_trains_from_yaml_with_an_adapter_and_its_base_is_found_again(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    from PIL import Image

    from xt.cli.main import main

    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 100, (60, 80, 3), np.uint8) + (150 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "run.yaml").write_text(
        f"data: {{folder: {tmp_path / 'images'}}}\n"
        f"model: {{encoder: 'transformers:{folder}', pretrained: true, region_size: 56, context: none, dim: 8, "
        "tokens_per_region: 1, readout: class}\n"
        "optim: {encoder_train: 'lora:2'}\n"
        f"train: {{out: {tmp_path / 'run'}, epochs: 1}}\n"
    )
    assert main(["train", str(tmp_path / "run.yaml")]) == 0
    model = xt.load_model(tmp_path / "run" / "model.safetensors")
    assert model.region_encoder.adapter == "lora:2"
    assert model.config.encoder_origin is not None
    assert model.config.encoder_origin["file"] == "model.safetensors"
    assert (
        main(
            [
                "predict",
                str(tmp_path / "run"),
                str(tmp_path / "images/dark"),
                "--out",
                str(tmp_path / "found"),
            ]
        )
        == 0
    )
