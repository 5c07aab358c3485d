"""Models from files whose configuration or weights something has changed; see also `test_damage`."""

import json
from dataclasses import asdict

import pytest
import safetensors.torch
import torch

from tests.small_model import small_model
from xt import load_model
from xt.errors import CheckpointError
from xt.model.weights_file import FORMAT


def saved(path, weights=None, **changes):
    model = small_model()
    weights = model.state_dict() if weights is None else weights
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.config) | changes)}
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": "wide"}, r"model\.dim must be a whole number, got 'wide'"),
        ({"dim": 10**9}, "dim must be at most 16384, got 1000000000"),
        ({"region_size": 0}, "must be at least 1"),
        ({"pixel_std": [1.0, float("nan"), 1.0]}, "positive standard deviations"),
        ({"pixel_mean": "0.5"}, r"model\.pixel_mean must be a list"),
        ({"context": "transformerxl"}, "unknown context encoder 'transformerxl'"),
        ({"context_options": {"depth": "x"}}, "depth of the context encoder .* must be a whole number, got 'x'"),
        ({"context_options": {"depth": 10**6}}, "depth of the context encoder 'transformer_xl' must be at most 1000"),
        ({"context_options": {"mlp_ratio": float("inf")}}, "mlp_ratio of the .* must be at most 16777216 and finite"),
        ({"context_options": {"dim": 8}}, "context_options has 'dim', which is no option"),
        ({"head_options": {"dropout": True}}, "dropout of the head 'classification' must be a number, got True"),
        ({"encoder_options": {"depths": [10**7] * 4}}, "encoder_options must be at most 16384 and finite"),
        ({"encoder_options": {"checkpoint_path": "a"}}, "encoder_options has 'checkpoint_path', which is no option"),
        ({"encoder_options": {"dims": "wide"}}, "timm cannot make convnext_atto"),
        ({"halo": 7}, "halo must be a multiple"),
    ],
)  # fmt: skip
def test_what_a_file_says_of_its_model_is_checked(tmp_path, changes, message):
    path = saved(tmp_path / "model.safetensors", **changes)
    with pytest.raises(
        CheckpointError,
        match=rf"model\.safetensors describes is not known here \(.*{message}.*another version",
    ):
        load_model(path)


def test_a_wide_model_is_refused_without_taking_its_memory(tmp_path):
    # Of this width it would take some 30 GB.
    path = saved(tmp_path / "model.safetensors", dim=16384)
    with pytest.raises(
        CheckpointError,
        match=r"are not those of the model it describes: \d+ are wanted, \d+ do not fit, such as",
    ):
        load_model(path)


def test_weights_that_are_too_many_or_missing_are_named(tmp_path):
    weights = small_model().state_dict()
    with pytest.raises(CheckpointError, match=r"such as extra is of shape \(1,\) and should be not there"):
        load_model(saved(tmp_path / "a.safetensors", weights | {"extra": torch.zeros(1)}))
    weights.pop("head.classifier.weight")
    with pytest.raises(
        CheckpointError,
        match=r"1 do not fit, such as head\.classifier\.weight is not there and should be of shape",
    ):
        load_model(saved(tmp_path / "b.safetensors", weights))


def test_metadata_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for text in ("{", "[]", '"a"', "[" * 100_000):
        safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"format": FORMAT, "config": text})
        with pytest.raises(CheckpointError, match=r"model\.safetensors describes is not known here"):
            load_model(path)
