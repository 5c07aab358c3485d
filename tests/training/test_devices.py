"""What a run chooses where there is a GPU; that one is there is only said, so that the CPU's tests see both."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from xt.config.training import TrainConfig
from xt.data.photo_dataset import PhotoDataset
from xt.training import loading
from xt.training.trainer import _is_on_cpu, _precision


@pytest.fixture
def has_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)


@pytest.mark.parametrize(
    ("accelerator", "precision", "expected"),
    [
        ("auto", "auto", "bf16-mixed"),
        ("gpu", "auto", "bf16-mixed"),
        ("cpu", "auto", "32-true"),
        ("auto", "16-mixed", "16-mixed"),
    ],
)
def test_the_precision_where_there_is_a_gpu(
    accelerator: str, precision: str, expected: str, has_gpu: None
) -> None:
    assert _precision(TrainConfig(accelerator=accelerator, precision=precision)) == expected
    assert _is_on_cpu(TrainConfig(accelerator=accelerator)) == (accelerator == "cpu")


def test_an_old_gpu_has_no_bfloat16(has_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert _precision(TrainConfig()) == "32-true"


def test_the_precision_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _precision(TrainConfig()) == "32-true"
    assert _is_on_cpu(TrainConfig())


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_photographs_wait_in_locked_memory_for_a_gpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(loading, "photo_loader", lambda *_, **settings: seen.update(settings))
    strategy = SimpleNamespace(root_device=torch.device(kind))
    data: Any = SimpleNamespace(trainer=SimpleNamespace(strategy=strategy), batch_size=2, workers=0)
    loading.TrainingData._loader(data, PhotoDataset.__new__(PhotoDataset), None)  # type: ignore[arg-type]
    assert seen["pin_memory"] == (kind == "cuda")
