"""Several images with one answer: one sequence, streamed, with the gradients of one ordinary graph."""

from pathlib import Path

import numpy as np
import pytest
import torch

import xt
from tests.data.features_of_others import some_features, write_trident
from tests.small_model import small_model
from xt.context_encoders import CONTEXT_ENCODERS
from xt.data.feature_files import FeatureFile
from xt.errors import ConfigError, ShapeError
from xt.images import LargeImage, open_image
from xt.model.cases import Case
from xt.model.files import load_model
from xt.model.region_pass import RegionPass
from xt.model.xt import XT
from xt.regions.encoded import EncodedImage

SHAPES = ((150, 200), (70, 90), (64, 64), (100, 130))


def images() -> list[LargeImage]:
    return [
        open_image(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))
        for seed, shape in enumerate(SHAPES)
    ]


def case_model(**settings: object) -> XT:
    return small_model(case_images=3, context="full", context_options={"depth": 1}, **settings)


def unstreamed(model: XT, cases: list[list[LargeImage | EncodedImage]]) -> torch.Tensor:
    """The same by hand, case by case, in one ordinary graph."""
    rows = []
    for case in cases:
        tokens, positions = [], []
        for number, image in enumerate(case):
            grid = model.grid(image)
            if isinstance(image, EncodedImage):
                found = torch.from_numpy(image.read_features(0, len(grid))).double()
                regions = model.region_encoder.project(found)
            else:
                batches = RegionPass(model, [image], model.streaming).batches([grid])
                regions = torch.cat([model.region_encoder(*batch) for batch in batches])
            assert model.which_image is not None
            tokens.append(regions.flatten(0, 1) + model.which_image.weight[number])
            positions.append(torch.from_numpy(grid.token_positions(model.tokens_per_side)))
        mixed = model.context_encoder(torch.cat(tokens)[None], torch.cat(positions)[None])
        rows.append(model.head(mixed)[0])
    return torch.cat(rows)


def gradients(model: XT, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("keep", ["none", "all"])
def test_streamed_gradients_of_cases_are_those_of_one_graph(keep: str) -> None:
    model = case_model().double()
    a, b, c, d = images()
    expected = unstreamed(model, [[a, b], [c, d]])
    wanted = gradients(model, expected)
    logits = model([Case([a, b]), Case([c, d])], region_batch=3, keep=keep)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    found = gradients(model, logits)
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert wanted["which_image.weight"][:2].abs().min() > 0
    assert wanted["which_image.weight"][2].abs().max() == 0


def test_cases_of_features_are_no_other_thing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = xt.create_model(
        "features", encoder_options={"width": 12}, dim=32, num_classes=3, context="full", case_images=2
    ).double()
    files = [
        FeatureFile(
            write_trident(
                tmp_path / f"{n}.h5",
                some_features(4 + n, seed=n),
                np.random.default_rng(n).integers(0, 9000, (4 + n, 2)),
            )
        )
        for n in range(3)
    ]
    expected = unstreamed(model, [files[:2], files[2:]])
    wanted = gradients(model, expected)
    logits = model([Case(files[:2]), files[2]], region_batch=2)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    for name, gradient in gradients(model, logits).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("context", sorted(CONTEXT_ENCODERS))
def test_a_case_of_any_length_beside_others_is_as_alone(context: str) -> None:
    model = small_model(case_images=4, context=context).double().eval()
    a, b, c, d = images()
    with torch.no_grad():
        together = model([Case([a, b, c]), d, Case([b])])
        alone = torch.cat([model(Case([a, b, c])), model(d), model([b])])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_which_image_and_how_many_matter() -> None:
    model = case_model().eval()
    a, b, *_ = images()
    with torch.no_grad():
        torch.nn.init.normal_(model.which_image.weight)  # type: ignore[union-attr]
        there, back, one = model([Case([a, b]), Case([b, a]), Case([a])])
        beyond = model([Case([a, a, a, b]), Case([a, a, b, b])])
    assert not torch.allclose(there, back, atol=1e-4)
    assert not torch.allclose(there, one, atol=1e-4)
    assert beyond.isfinite().all()


def test_relevance_counts_all_tokens_of_a_case() -> None:
    model = case_model().eval()
    a, b, c, _ = images()
    with torch.no_grad():
        _, relevance = model([Case([a, b]), c], return_relevance=True)
    lengths = [model.grid(image).token_positions(2).shape[0] for image in (a, b, c)]
    assert relevance.weights.shape == (2, lengths[0] + lengths[1])
    torch.testing.assert_close(relevance.weights.sum(1), torch.ones(2))
    assert relevance.mask is not None
    assert relevance.mask[1].sum() == lengths[2]
    second = relevance.positions[0, lengths[0] :].numpy()
    np.testing.assert_allclose(second, model.grid(b).token_positions(2))


def test_what_is_no_case_is_refused() -> None:
    a, b, *_ = images()
    with pytest.raises(
        ConfigError, match=r"answers about one image at a time, and was given a case of several"
    ):
        small_model()([Case([a, b])])
    assert small_model().eval()([Case([a]), b]).shape == (2, 3)
    with pytest.raises(ShapeError, match="the case 'p7' has no images"):
        Case([], "p7")
    with pytest.raises(ConfigError, match="case_images is about one answer for several images"):
        small_model(case_images=2, head="segmentation")


def test_a_saved_model_takes_cases(tmp_path: Path) -> None:
    model = case_model().eval()
    a, b, *_ = images()
    model.save(tmp_path / "m.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(tmp_path / "m.safetensors").eval()(Case([a, b])), model(Case([a, b]))
        )
