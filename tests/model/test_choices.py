"""Regions chosen: what is looked at, told apart by scale, with the gradients of one ordinary graph."""

import warnings

import numpy as np
import pytest
import torch

import xt
from tests.small_model import small_model
from xt.context_encoders import CONTEXT_ENCODERS
from xt.errors import ConfigError
from xt.images import LargeImage, open_image
from xt.model.by_model import ByModel, Scorer, opened
from xt.model.choices import REGION_CHOICES
from xt.model.files import load_model
from xt.model.xt import XT
from xt.regions.choice import RegionChoice
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid


def images() -> list[LargeImage]:
    """Plain but for one corner each."""
    found = []
    for seed, shape in enumerate(((512, 300), (270, 400))):
        array = np.full((*shape, 3), 90, np.uint8)
        array[40 + seed : 100, 70:140] = np.random.default_rng(seed).integers(0, 256, (60 - seed, 70, 3))
        found.append(open_image(array))
    return found


def choosing(**settings: object) -> XT:
    options = {"regions": "by_content", "regions_options": {"budget": 0.5}, "dim": 32}
    model = small_model(context="full", context_options={"depth": 1}, **(options | settings))
    if model.which_scale is not None:
        torch.nn.init.normal_(model.which_scale.weight)
    return model


def unstreamed(model: XT, seen: list[LargeImage]) -> torch.Tensor:
    """The same by hand, image by image and region by region, in one ordinary graph."""
    rows = []
    for image in seen:
        grid, size = model.grid(image), model.region_encoder.region_size
        tokens = []
        for region in grid:
            scale = region.height // size
            pixels = image.read(region.y, region.x, region.height, region.width)
            inside = np.zeros(pixels.shape[:2], bool)
            inside[: image.shape[0] - region.y, : image.shape[1] - region.x] = True
            blocks = pixels.reshape(size, scale, size, scale, 3).astype(float)
            there = inside.reshape(size, scale, size, scale)[..., None]
            count = there.sum(axis=(1, 3))
            means = np.rint((blocks * there).sum(axis=(1, 3)) / np.maximum(count, 1)).astype(np.uint8)
            batch = torch.from_numpy(means.transpose(2, 0, 1))[None]
            valid = torch.from_numpy(np.broadcast_to(count > 0, means.shape).transpose(2, 0, 1).copy())[None]
            (token,) = model.region_encoder(batch, valid)
            if scale > 1:
                token = token + model.which_scale.weight[scale.bit_length() - 2]
            tokens.append(token)
        positions = torch.from_numpy(grid.token_positions(model.tokens_per_side))
        mixed = model.context_encoder(torch.cat(tokens)[None], positions[None])
        rows.append(model.head(mixed)[0])
    return torch.cat(rows)


def gradients(model: XT, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("keep_coarse", [False, True])
def test_streamed_gradients_of_what_was_chosen_are_those_of_one_graph(keep_coarse):
    model = choosing(regions_options={"budget": 0.5, "keep_coarse": keep_coarse}).double()
    seen = images()
    grids = [model.grid(image) for image in seen]
    assert all(len(set(grid.scales)) == 3 for grid in grids)
    assert [grid.is_partition for grid in grids] == [not keep_coarse] * 2
    expected = unstreamed(model, seen)
    wanted = gradients(model, expected)
    logits = model(seen, region_batch=3)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    found = gradients(model, logits)
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert wanted["which_scale.weight"].abs().min() > 0


@pytest.mark.parametrize("context", sorted(CONTEXT_ENCODERS))
def test_every_context_encoder_is_told_the_scale(context):
    model = small_model(context=context, regions="by_content", regions_options={"budget": 0.5}).eval()
    image = images()[0]
    with torch.no_grad():
        before = model(image)
        model.which_scale.weight += torch.randn(model.which_scale.weight.shape)
        assert not torch.allclose(model(image), before)


def test_at_full_resolution_nothing_is_added():
    plain, told = small_model(), small_model(levels=3)
    assert plain.which_scale is None
    assert told.which_scale.weight.shape == (2, 32)
    torch.nn.init.normal_(told.which_scale.weight)
    seen = images()
    assert torch.equal(plain(seen), told(seen))
    assert isinstance(plain.grid(seen[0]), RegionGrid)


def test_with_everything_opened_the_answer_is_that_of_all(recwarn):
    everything = choosing(regions_options={"tolerance": 0.0}, order="hilbert")
    array = np.random.default_rng(0).integers(0, 256, (300, 290, 3), dtype=np.uint8)
    plain = small_model(context="full", context_options={"depth": 1}, order="hilbert")
    plain.load_state_dict(
        {name: value for name, value in everything.state_dict().items() if "which_scale" not in name}
    )
    assert torch.equal(everything(open_image(array)), plain(open_image(array)))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_tensor_is_chosen_from_as_an_image_is(batch):
    model = choosing().eval()
    arrays = np.stack([images()[0].read(0, 0, 512, 300)] * batch)
    with torch.no_grad():
        found = model(torch.from_numpy(arrays).permute(0, 3, 1, 2))
        torch.testing.assert_close(found, model([open_image(array) for array in arrays]))


def test_a_file_says_how_regions_are_chosen_and_files_of_before_load(tmp_path):
    model = choosing(levels=2)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert (again.config.regions, again.config.levels) == ("by_content", 2)
    assert again.config.regions_options == {"budget": 0.5}
    image = images()[0]
    assert torch.equal(again.eval()(image), model.eval()(image))
    assert max(again.grid(image).scales) == 2


def test_one_s_own_choice_comes_in_by_a_name(monkeypatch):
    from xt import registry

    monkeypatch.setattr(registry, "_registered", {group: {} for group in registry.KINDS})

    @xt.register("region_choices", "coarse")
    class Coarse(RegionChoice):
        def __init__(self, levels: int = 2) -> None:
            super().__init__(levels)

        def first(self, image, fine):
            return PyramidGrid.coarsest(fine, self.levels)

    assert "coarse" in REGION_CHOICES
    model = small_model(regions="coarse")
    assert len(model.grid(images()[0])) == 4 * 3
    assert model(images()).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regions": "by_contents"}, "unknown choice of regions 'by_contents'.*did you mean 'by_content'"),
        (
            {"regions": "all", "regions_options": {"budget": 0.2}},
            "'all' has no option 'budget', as it looks at .*: set model.regions to by_content or by_model",
        ),
        (
            {"regions": "by_content", "regions_options": {"nois": 1.0}},
            r"no option 'nois'; it takes budget, tolerance, keep_coarse$",
        ),
        ({"context_options": {"deph": 1}}, r"\(did you mean 'depth'\?\); it takes depth, "),
        ({"head_options": {"dropot": 1}}, r"\(did you mean 'dropout'\?\); it takes (?!.*(dim|num_classes))"),
        ({"regions": "by_content", "regions_options": {"budget": 0}}, "above 0 and at most 1.*got 0"),
        ({"regions": "by_content", "regions_options": {"budget": 2.5}}, "whole number.*got 2.5"),
        ({"regions": "by_content", "regions_options": {"budget": -3}}, "got -3"),
        ({"regions": "by_content", "regions_options": {"budget": float("nan")}}, "got nan"),
        (
            {"regions": "by_content", "regions_options": {"tolerance": -1.0}},
            "tolerance is at least 0, got -1",
        ),
        ({"regions": "by_content", "regions_options": {"budget": "10%"}}, "a budget is a share.*got '10%'"),
        ({"regions": "by_content", "regions_options": {"budget": True}}, "a budget is a share.*got True"),
        ({"regions": "by_model", "regions_options": {"budget": 1e9}}, "at most 16,777,216; got 1000000000.0"),
        ({"regions": "by_content", "regions_options": {"keep_coarse": 1}}, "must be true or false, got 1"),
        ({"regions": "by_model", "regions_options": {"training_budget": 0}}, "above 0 and at most 1.*got 0"),
        ({"regions": "by_model", "regions_options": {"training_budget": 1.5}}, "whole number.*got 1.5"),
        ({"regions": "by_content", "regions_options": {"levels": 3}}, "follows from the model's settings"),
        ({"regions": "by_content", "levels": 0}, "levels must be 1 to 12, got 0"),
        ({"regions": "by_content", "levels": 13}, "levels must be at most 12, got 13"),
        ({"regions": "by_content", "image_size": 224}, "leave one of the two out"),
    ],
)
def test_odd_choices_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        small_model(**settings)


def by_model(**settings: object) -> XT:
    return choosing(**({"regions": "by_model", "regions_options": {"budget": 0.4, "noise": 0.0}} | settings))


def test_of_the_model_s_own_choice_gradients_are_those_of_one_graph():
    model = by_model().double()
    seen = images()
    logits = model(seen, region_batch=3)
    grids = model.tokens(seen).grids
    assert all(set(grid.scales) == {1, 2, 4} for grid in grids)
    found = gradients(model, logits)
    # The same regions, by hand.
    scorer, model.scorer = model.scorer, None
    model.grid = lambda image: grids[seen.index(image)]  # type: ignore[method-assign]
    expected = unstreamed(model, seen)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    wanted = gradients(model, expected)
    own = {name for name in found if name.startswith("scorer.")}
    assert own == {f"scorer.{name}" for name, _ in scorer.named_parameters()}
    assert found.keys() - own == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert max(found[name].abs().max() for name in own) > 0


@pytest.mark.filterwarnings("ignore:.*is seen coarsely alone")
@pytest.mark.parametrize("budget", [0.1, 0.3, 1.0, 9])
def test_a_model_keeps_its_budget_and_opens_what_lies_in_what_it_saw(budget):
    model = by_model(regions_options={"budget": budget}).train()
    for image, grid in zip(images(), model.tokens(images()).grids, strict=True):
        fine, coarsest = model.fine_grid(image), model.grid(image)
        assert len(grid) <= model.reading.choice.most(fine)
        assert {*map(tuple, grid.places)} >= {*map(tuple, coarsest.places)}
        for scale, row, column in grid.places:
            assert scale == 4 or (2 * scale, row // 2, column // 2) in {*map(tuple, grid.places)}


@pytest.mark.parametrize(
    ("shape", "budget"),
    [((768, 768), 0.1), ((900, 900), 0.1), ((640, 900), 0.1), ((1024, 512), 0.1), ((512, 512), 9)],
)
def test_what_fits_is_opened_where_it_is_too_little_for_every_level(shape, budget):
    """Half of what is left may be less than one opening takes."""
    choice, fine = ByModel(3, budget), RegionGrid(height=shape[0], width=shape[1], region_size=64)
    grid = choice.first(open_image(np.zeros((*shape, 1), np.uint8)), fine)
    coarsest = len(grid)
    while len(more := choice.more(grid, -np.arange(float(len(grid))))):
        grid = PyramidGrid(fine, np.concatenate([grid.places, more]))
    assert coarsest < len(grid) <= choice.most(fine)


@pytest.mark.parametrize(("budget", "unopened"), [(4, 2), (5, 2), (7, 2), (8, 1), (1.0, 0)])
def test_where_nothing_can_be_opened_it_is_said(budget, unopened):
    model = by_model(regions_options={"budget": budget}).eval()
    # 4 and 8 regions of scale 4, and one that is all there is.
    seen = [open_image(np.zeros((*shape, 3), np.uint8)) for shape in [(512, 512), (512, 1024), (60, 60)]]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.tokens(seen)
    said = [str(one.message) for one in found]
    assert ["it is seen coarsely alone; take a larger budget" in sentence for sentence in said] == [
        True
    ] * unopened


@pytest.mark.filterwarnings("ignore:.*is seen coarsely alone")
@pytest.mark.parametrize(
    "shapes", [[(50, 40)], [(64, 128)], [(200, 120)], [(512, 300), (50, 40), (200, 120)]]
)
def test_images_of_fewer_levels_than_the_model_go_beside_others(shapes):
    """In one region there is nothing to open, whatever the others still open."""
    model = by_model().train()
    seen = [open_image(np.full((*shape, 3), 90, np.uint8)) for shape in shapes]
    for image, grid in zip(seen, model.tokens(seen).grids, strict=True):
        assert (
            len(model.grid(image)) <= len(grid) <= max(model.reading.choice.most(model.fine_grid(image)), 1)
        )
    model(seen).sum().backward()


@pytest.mark.parametrize("chosen", [True, False])
def test_where_nothing_can_be_opened_the_scorer_has_a_gradient_of_zeros(chosen):
    """Processes with images of their own wait for a gradient of every parameter."""
    model = choosing(regions="by_model").train()
    # One region; or regions that were given and are all at full resolution, as those of features are.
    seen = open_image(np.full((40, 50, 3), 9, np.uint8)) if chosen else images()[0]
    answer = model([seen], grids=None if chosen else [model.fine_grid(seen)])
    expected = answer.detach()
    answer.square().sum().backward()
    assert all((parameter.grad == 0).all() for parameter in model.scorer.parameters())
    assert all(parameter.grad is not None for parameter in model.context_encoder.parameters())
    with torch.no_grad():
        assert torch.equal(model([seen], grids=None if chosen else [model.fine_grid(seen)]), expected)


def test_in_training_another_budget_may_count():
    model, image = by_model(regions_options={"budget": 0.2, "training_budget": 1.0}), images()[0]
    fine, choice = model.fine_grid(image), model.reading.choice
    (learning,) = model.train().tokens(image).grids
    (using,) = model.eval().tokens(image).grids
    assert len(using) <= choice.most(fine) < 0.3 * len(fine) < len(learning) <= len(fine)


def test_noise_opens_others_in_training_alone():
    model, image = by_model(regions_options={"budget": 0.3, "noise": 5.0}), images()[0]
    torch.manual_seed(1)

    def places():
        return {tuple(model.tokens(image).grids[0].places.ravel()) for _ in range(4)}

    assert len(places()) > 1
    model.eval()
    assert len(places()) == 1


def test_a_scorer_learns_to_open_where_the_answer_lies():
    """Which of the coarse regions is worth a look is seen in them; what the answer is only in the fine ones."""
    torch.manual_seed(0)
    tokens = 16
    scorer, read = Scorer(8), torch.nn.Linear(8, 2)
    choice = ByModel(levels=2, budget=0.35)
    fine = RegionGrid(height=8, width=8, region_size=1)
    optimiser = torch.optim.Adam([*scorer.parameters(), *read.parameters()], 0.03)
    hits = []
    for step in range(180):
        grid = PyramidGrid.coarsest(fine, 2)
        where, label = int(torch.randint(tokens, ())), int(torch.randint(2, ()))
        coarse = 0.1 * torch.randn(tokens, 1, 8)
        coarse[where, 0, 0] += 1

        def encode(grids, where=where, grid=grid, label=label):
            (finer,) = grids
            inside = (finer.places[:, 1:] // 2 == grid.places[where, 1:]).all(axis=1)
            found = 0.1 * torch.randn(len(finer), 1, 8)
            found[torch.from_numpy(inside), 0, 1] += 1 if label else -1
            return found

        scorer.train(step < 150)
        seen, (opened_grid,) = opened(choice, scorer, coarse, [grid], encode)
        finest = opened_grid.places[opened_grid.scales == 1]
        hits.append(bool((finest[:, 1:] // 2 == grid.places[where, 1:]).all(axis=1).any()))
        loss = torch.nn.functional.cross_entropy(
            read(seen.mean(dim=(0, 1)) * 16)[None], torch.tensor([label])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # Of 16 regions one is opened: by chance in a sixteenth of the cases.
    assert np.mean(hits[150:]) > 0.9
