"""The smallest budget that is good enough, chosen at the end of a run by its validation images."""

import json
import warnings
from types import SimpleNamespace

import pytest

import xt
from tests.small_model import small_model
from tests.training.toy import MODEL, toy_config, toy_table
from xt.cli.main import main
from xt.config.parser import config_to_yaml
from xt.errors import ConfigError, DataWarning
from xt.labels.image_table import ImageTable
from xt.model.files import load_model
from xt.regions.choice import AllRegions
from xt.training.budget import check_budget, in_words, settle_budget


def config(tmp_path, points=1.0, **sections):
    given = {"model": {"regions": "by_content"}, "train": {"budget_loss": points}}
    return toy_config(
        tmp_path / "table.csv",
        tmp_path / "out",
        **{name: given.get(name, {}) | sections.get(name, {}) for name in {*given, *sections}},
    )


def measured(model, values: dict[float | str, float | None], metric: str, asked: list):
    """As if the model were measured: by its budget."""

    def measure(what: str):
        choice = model.reading.choice
        asked.append((what, "all" if isinstance(choice, AllRegions) else choice.budget))
        return SimpleNamespace(summary=lambda: {metric: values[asked[-1][1]]})

    return measure


VALUES = {"all": 0.92, 0.1: 0.6, 0.2: 0.905, 0.4: 0.93, 1.0: 0.92}


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
@pytest.mark.parametrize(
    ("points", "chosen", "tried"),
    [
        (0.0, 0.4, [0.1, 0.2, 0.4]),
        (1.5, 0.2, [0.1, 0.2]),
        (40.0, 0.1, [0.1]),
    ],
)
def test_the_smallest_that_is_good_enough_is_the_model_s(tmp_path, regions, points, chosen, tried):
    model, asked = small_model(regions=regions, regions_options={"budget": 0.3}), []
    found = settle_budget(
        model,
        measured(model, VALUES, "top1", asked),
        config(tmp_path, points, model={"regions": regions}),
        100,
    )
    assert asked == [("all regions", "all"), *((f"budget {budget:g}", budget) for budget in tried)]
    assert model.reading.choice.budget == chosen
    assert model.config.regions_options == {"budget": chosen}
    assert (found["chosen"], found["metric"], found["all"]) == (chosen, "top1", 0.92)
    assert list(found["tried"]) == [f"{budget:g}" for budget in tried]
    assert (
        f"budget: {chosen:g}, top1 {VALUES[chosen]:.4g} on 100 validation images, with all 0.92"
        in in_words(found)
    )
    model.save(tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").reading.choice.budget == chosen


def test_where_less_is_better_more_is_lost(tmp_path):
    model, asked = small_model(regions="by_content"), []
    values = {"all": 0.30, 0.1: 0.5, 0.2: 0.32, 0.4: 0.1, 1.0: 0.3}
    settings = config(tmp_path, 3.0, train={"best": "loss"})
    assert settle_budget(model, measured(model, values, "loss", asked), settings, 100)["chosen"] == 0.2


def test_where_none_is_good_enough_it_is_the_largest_and_that_is_said(tmp_path):
    model, asked = small_model(regions="by_content"), []
    values = VALUES | {0.2: 0.5, 0.4: 0.5, 1.0: 0.9}
    with pytest.warns(
        DataWarning, match=r"no budget of regions keeps top1 within 1 points of 0.92.* the largest, 1;"
    ):
        found = settle_budget(model, measured(model, values, "top1", asked), config(tmp_path), 100)
    assert found["chosen"] == model.reading.choice.budget == 1.0


def test_what_cannot_be_measured_changes_nothing(tmp_path):
    model, asked = small_model(regions="by_content", regions_options={"budget": 0.3}), []
    with pytest.warns(DataWarning, match="auroc cannot be measured on the validation images"):
        found = settle_budget(
            model,
            measured(model, {"all": None}, "auroc", asked),
            config(tmp_path, train={"best": "auroc"}),
            100,
        )
    assert model.reading.choice.budget == 0.3
    assert "as it was" in in_words(found)


@pytest.mark.parametrize(
    ("images", "points", "warned"), [(5, 5.0, True), (1, 5.0, True), (20, 5.0, False), (3, 0.0, False)]
)
def test_of_few_images_it_is_said_that_they_tell_little(tmp_path, images, points, warned):
    model = small_model(regions="by_content")
    values = dict.fromkeys(["all", 0.1], 0.6)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        settle_budget(model, measured(model, values, "top1", []), config(tmp_path, points), images)
    said = [
        str(one.message) for one in found if "points, more than the 5 that may be lost" in str(one.message)
    ]
    assert len(said) == warned
    if warned:
        assert ("is one validation image" if images == 1 else f"are {images} validation images") in said[0]


@pytest.mark.parametrize(("levels", "least"), [(1, 1.0), (2, 0.4), (3, 0.1), (4, 0.05)])
def test_budgets_below_the_coarsest_level_are_not_tried(tmp_path, levels, least):
    model, asked = small_model(regions="by_content", levels=levels), []
    values = dict.fromkeys(["all", 0.05, 0.1, 0.2, 0.4, 1.0], 0.5)
    assert (
        settle_budget(model, measured(model, values, "top1", asked), config(tmp_path), 100)["chosen"] == least
    )


def test_a_tolerance_stays_beside_the_budget(tmp_path):
    model, asked = small_model(regions="by_content", regions_options={"tolerance": 0.5}), []
    settle_budget(model, measured(model, VALUES, "top1", asked), config(tmp_path), 100)
    assert model.config.regions_options == {"tolerance": 0.5, "budget": 0.4}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"regions": "all"}}, "model.regions is all: set it to by_content or by_model"),
        ({"train": {"budget_loss": -1}}, "train.budget_loss must be"),
        ({"train": {"budget_loss": 101}}, "train.budget_loss must be"),
        ({"train": {"budget_loss": float("nan")}}, "train.budget_loss must be"),
    ],
)
def test_odd_settings_are_refused(tmp_path, sections, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **sections)


def test_what_nothing_can_be_chosen_by_is_refused_before_the_first_step(tmp_path):
    model = small_model(regions="by_content")
    with pytest.raises(
        ConfigError, match=r"train.budget_loss chooses by validation images, and there are none"
    ):
        check_budget(config(tmp_path), model, None)
    table = object.__new__(ImageTable)
    with pytest.raises(ConfigError, match="holds features of regions that were chosen before"):
        check_budget(config(tmp_path, data={"features": "features"}), model, table)
    with pytest.raises(ConfigError, match="AllRegions has no budget"):
        check_budget(config(tmp_path), small_model(), table)
    check_budget(config(tmp_path), model, table)


def test_a_run_chooses_it_and_says_so(tmp_path, capsys):
    table = toy_table(tmp_path / "data", train=3, val=3, test=3)
    settings = toy_config(
        table,
        tmp_path / "run",
        model=MODEL
        | {"regions": "by_content", "levels": 2, "context": "none", "regions_options": {"budget": 1}},
        train={"epochs": 1, "budget_loss": 100, "logger": []},
    )
    (tmp_path / "run.yaml").write_text(config_to_yaml(settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["train", str(tmp_path / "run.yaml")]) == 0
    assert "budget: 0.4 (33.3% of the regions)" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["budget"]
    assert (found["chosen"], list(found["tried"])) == (0.4, ["0.4"])
    assert found["tried"]["0.4"]["share"] == pytest.approx(2 / 6)
    assert xt.load_model(tmp_path / "run").config.regions_options == {"budget": 0.4}
