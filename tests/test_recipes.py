"""The recipes: all are there, each row of the authors' iNaturalist table loads, is that row, and makes a model."""

import tomllib
from pathlib import Path

import pytest
import timm
import torch

import xt
from xt.config.parser import load_config
from xt.config.run import RunConfig
from xt.errors import ConfigError
from xt.model.build import build_model
from xt.recipes import configuration_file, read, recipes, summary

# Region encoder, context encoder, image size, top-1 in %, parameters in millions: the table in the authors' README.
AUTHORS = {
    "swin_t_256": ("tiny", "none", 256, 53.76, 31),
    "swin_t_hyper_256_256": ("tiny", "hyper", 256, 52.93, 47),
    "swin_t_hyper_512_256": ("tiny", "hyper", 512, 60.56, 47),
    "swin_t_xl_512_256": ("tiny", "transformer_xl", 512, 58.92, 47),
    "swin_t_mamba_512_256": ("tiny", "mamba", 512, 61.97, 44),
    "swin_s_256": ("small", "none", 256, 58.45, 52),
    "swin_s_hyper_256_256": ("small", "hyper", 256, 57.04, 69),
    "swin_s_hyper_512_256": ("small", "hyper", 512, 63.62, 69),
    "swin_s_xl_512_256": ("small", "transformer_xl", 512, 62.68, 69),
    "swin_b_256": ("base", "none", 256, 58.57, 92),
    "swin_b_hyper_256_256": ("base", "hyper", 256, 55.52, 107),
    "swin_b_hyper_512_256": ("base", "hyper", 512, 64.08, 107),
    "swin_b_xl_512_256": ("base", "transformer_xl", 512, 62.09, 107),
    "swin_b_mamba_512_256": ("base", "mamba", 512, 63.73, 103),
    "swin_l_256": ("large", "none", 256, 68.78, 206),
    "swin_l_hyper_256_256": ("large", "hyper", 256, 67.84, 215),
    "swin_l_hyper_512_256": ("large", "hyper", 512, 72.42, 215),
    "swin_l_xl_512_256": ("large", "transformer_xl", 512, 73.47, 215),
    "swin_l_mamba_512_256": ("large", "mamba", 512, 73.36, 212),
}


def _recipe(name: str, *overrides: str) -> RunConfig:
    return load_config(f"inaturalist/{name}", overrides)


def test_there_is_a_recipe_for_each_row_and_no_other() -> None:
    assert {name.partition("/")[2] for name in recipes() if name.startswith("inaturalist/")} == set(AUTHORS)


@pytest.mark.parametrize("name", AUTHORS)
def test_a_recipe_is_its_row(name: str) -> None:
    size, context, image_size, top1, _ = AUTHORS[name]
    config = _recipe(name)
    model, photos = config.model, config.data.photos
    assert model.encoder.startswith(f"swinv2_{size}_")
    assert timm.models.is_model_pretrained(model.encoder)
    assert (model.context, model.image_size, model.region_size) == (context, image_size, 256)
    assert model.context_options == ({} if context == "none" else {"depth": 2})
    assert model.pretrained
    assert config.data.inaturalist_classes == ("Reptilia",)
    # What the authors trained with, as their configurations have it.
    assert photos.auto_augment == "rand-m9-mstd0.5-inc1"
    assert model.head_options == {"label_smoothing": 0.3}
    assert (config.train.epochs, config.train.gradient_clip) == (100, 5.0)
    assert config.train.out.endswith(name)
    assert f"top-1 {top1:.2f} %" in summary(f"inaturalist/{name}")


# The wide ones take a minute together to be filled with random weights.
_QUICK = (
    "swin_t_256",
    "swin_t_hyper_256_256",
    "swin_t_hyper_512_256",
    "swin_t_xl_512_256",
    "swin_t_mamba_512_256",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in AUTHORS]
)
def test_a_recipe_makes_a_model_that_answers(name: str) -> None:
    # Another number of classes than three would do as well; the images are those of two regions.
    config = _recipe(name, "--model.pretrained=false", "--model.num_classes=284")
    model = build_model(config.model).eval()
    assert model.tokens_per_side == 8
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    assert logits.shape == (1, 284)
    assert torch.isfinite(logits).all()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    backbone = sum(parameter.numel() for parameter in model.region_encoder.network.parameters())
    whole = timm.create_model(config.model.encoder.split(".")[0], num_classes=0, device="meta")
    # All of timm's model, its last norm with it.
    assert backbone == sum(parameter.numel() for parameter in whole.parameters())
    assert parameters < 1e6 * AUTHORS[name][-1] + 1e6


def _yaml(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_base_stands_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    _yaml(tmp_path / "root.yaml", "model: {encoder: a, dim: 8}\ntrain: {epochs: 3, seed: 1}\n")
    _yaml(tmp_path / "inner" / "middle.yaml", "base: ../root.yaml\ntrain: {epochs: 5}\n")
    config = load_config(_yaml(tmp_path / "top.yaml", "base: inner/middle.yaml\nmodel: {encoder: b}\n"))
    assert (config.model.encoder, config.model.dim) == ("b", 8)
    assert (config.train.epochs, config.train.seed) == (5, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml\n", r"none\.yaml: there is no such configuration file"),
        (
            "base: [a]\n",
            r"base must be the path of another configuration file or the name of a recipe, got \['a'\]",
        ),
        ("base: classificatoin\n", r"run\.yaml: base: .* neither .* did you mean 'classification'\?"),
        ("base: run.yaml\n", r"run\.yaml: base run\.yaml leads back to the file itself"),
        ("base: other.yaml\n", r"other\.yaml: base run\.yaml leads back to the file itself"),
        ("model: {encoder: a, base: b}\n", r"unknown key 'model\.base'"),
    ],
)
def test_a_base_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    _yaml(tmp_path / "other.yaml", "base: run.yaml\n")
    with pytest.raises(ConfigError, match=message):
        load_config(_yaml(tmp_path / "run.yaml", text))


def test_a_recipe_may_be_a_base(tmp_path: Path) -> None:
    config = load_config(_yaml(tmp_path / "mine.yaml", "base: coco/swin_t_xl\ntrain: {epochs: 3}\n"))
    assert (config.model.context, config.model.halo, config.train.epochs) == ("transformer_xl", 32, 3)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_says_what_it_is_for_and_loads_wherever_it_lies(name: str, tmp_path: Path) -> None:
    said = summary(name)
    assert 20 < len(said) < 110
    assert not said.startswith("xt ")
    # What `xt recipes show` prints is a file that works anywhere.
    assert load_config(_yaml(tmp_path / "copy.yaml", read(name))) == load_config(name)


def test_recipes_are_in_the_order_of_use() -> None:
    names = list(recipes())
    assert names[:10] == [
        "classification",
        "coco",
        "detection",
        "inaturalist",
        "multitask",
        "ordinal",
        "points",
        "segmentation",
        "survival",
        "xview3",
    ]
    assert all("/" in name for name in names[10:])


def test_a_file_counts_before_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classification").mkdir()
    assert configuration_file("classification") == recipes()["classification"]
    _yaml(tmp_path / "points", "model: {encoder: mine}\n")
    assert load_config("points").model.encoder == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classificatoin", r"classificatoin: there is neither .*; did you mean 'classification'\?"),
        ("Segmentation", "did you mean 'segmentation'"),
        ("swin_t_xl_512_256", "did you mean 'inaturalist/swin_t_xl_512_256'"),
        ("coco/swin_t_hiper", "did you mean 'coco/swin_t_hyper'"),
        ("zzz", r"zzz: there is neither such a file nor such a recipe; xt recipes lists those there are"),
        ("points.yaml", r"points\.yaml: there is no such configuration file; the recipe is called 'points'"),
        ("configs/coco_swin_t.yaml", "the recipe is called 'coco/swin_t'"),
        ("mine.yaml", r"mine\.yaml: there is no such configuration file$"),
        (".", "is a folder: expected a YAML file or the name of a recipe"),
        ("a" * 300, "there is neither such a file nor such a recipe"),
    ],
)
def test_a_name_that_is_no_recipe(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_config(name)


def test_the_package_has_the_recipes() -> None:
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    data = settings["tool"]["setuptools"]["package-data"]["xt"]
    package = Path(xt.__file__).parent
    packed = {path for pattern in data for path in package.glob(pattern)}
    assert set(recipes().values()) <= packed
    assert len(recipes()) > 25
