"""Numbers are learned in standard deviations of the training images and told in their own unit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xt import load_model
from xt.errors import ConfigError
from xt.heads import HEADS, create_head
from xt.training.run import train

from ..training.toy import toy_config, toy_model, toy_table


def head_of(**options):
    torch.manual_seed(0)
    return create_head("regression", dim=8, num_classes=2, **options)


def test_what_is_measured_is_mean_and_deviation_of_each_number():
    ages = np.array([[1e9, 3], [3e9, 3]], np.float32)
    measured = HEADS["regression"].measured(ages, {})
    assert measured == {"mean": [2e9, 3.0], "std": [1e9, 1.0]}, "what never changes is divided by nothing"
    head = head_of(**measured)
    logits = torch.tensor([[1.0, 0.0], [-0.5, 2.0]])
    torch.testing.assert_close(head.probabilities(logits), torch.tensor([[3e9, 3.0], [1.5e9, 5.0]]))
    torch.testing.assert_close(
        head.loss(logits, torch.tensor([[3e9, 3.0], [1e9, 5.0]])), torch.tensor(0.0625)
    )


def test_what_is_given_is_not_measured():
    assert HEADS["regression"].measured(np.ones((2, 1)), {"mean": [0.0]}) == {}


def test_numbers_that_lack_are_not_counted():
    gaps = np.array([[1, np.nan], [3, np.nan]], np.float32)
    assert HEADS["regression"].measured(gaps, {}) == {"mean": [2.0, 0.0], "std": [1.0, 1.0]}


def test_large_errors_count_by_their_size_with_huber():
    logits, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([[10.0, 0.5]])
    found = head_of(huber=1.0, mean=[0, 0], std=[2, 1]).loss(logits, targets)
    torch.testing.assert_close(found, F.huber_loss(logits, torch.tensor([[5.0, 0.5]])))
    assert found < head_of(mean=[0, 0], std=[2, 1]).loss(logits, targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"huber": 0.0}, "huber of the head 'regression' must be > 0, got 0.0"),
        ({"mean": [1.0]}, r"mean of the head 'regression' must have a number for each of 2, got \[1.0\]"),
        ({"std": [1.0, 0.0]}, "std of the head 'regression' must be > 0"),
        ({"std": [1.0, float("inf")]}, "std of the head 'regression' must be .*finite, got inf"),
        ({"huber": float(2**25)}, "huber of the head 'regression' must be at most"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        head_of(**options)


def test_a_file_of_before_has_neither_and_answers_as_it_did(tmp_path):
    model = toy_model(head="regression", num_classes=2, class_names=("a", "b"))
    assert not {"head.mean", "head.std"} & set(model.state_dict()), "files of before lack them"
    model.save(tmp_path / "model.safetensors")
    pixels = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    again = load_model(tmp_path / "model.safetensors").eval()
    logits = again(pixels)
    torch.testing.assert_close(again.head.probabilities(logits), logits, rtol=0, atol=0)
    assert not again.config.head_options


def test_a_run_learns_numbers_far_from_zero_and_goes_on(tmp_path):
    table = toy_table(tmp_path / "images", train=12, val=3, test=3)
    heights = {"red": 250_000_000, "green": 251_000_000, "blue": 252_000_000}
    text = table.read_text()
    for colour, height in heights.items():
        text = text.replace(f",{colour},", f",{height},")
    table.write_text(text)

    def config(epochs, resume="none"):
        return toy_config(
            table, tmp_path / "run", model={"head": "regression"}, train={"epochs": epochs, "resume": resume}
        )

    result = train(config(1))
    options = result.model.config.head_options
    assert options["mean"] == [251_000_000.0]
    assert options["std"][0] == pytest.approx(816_496.58)
    assert result.metrics["test"]["rmse"] < 5e6, "in its own unit, and not far from the mean of all"
    assert result.metrics["test"]["loss"] < 20, "in standard deviations"
    again = load_model(tmp_path / "run" / "model.safetensors")
    assert again.config.head_options == options
    assert train(config(2, "auto")).model.config.head_options == options
