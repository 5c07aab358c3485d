"""Small models to export, and what they say beside what their exports say."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

import xt
from tests.small_models import small_model
from xt.exporting.loading import load_exported

# Several segments, windows and scales even of small images.
SMALL_CONTEXTS: dict[str, dict[str, Any]] = {
    "none": {},
    "full": {"depth": 1},
    "mamba": {"depth": 1, "state_dim": 4, "segment_length": 32},
    "mamba2": {"depth": 1, "segment_length": 16, "chunk_length": 8, "head_dim": 16},
    "gated_delta": {"depth": 1, "segment_length": 16, "chunk_length": 8, "head_dim": 16},
    "transformer_xl": {"depth": 1, "segment_length": 16, "memory_length": 24, "summary_length": 8},
    "longformer": {"depth": 1, "window_size": 16, "num_global": 4, "segment_length": 32},
    "multiscale": {"depth": 1, "window_length": 16},
}


def model_to_export(context: str, head: str = "classification", **settings: Any) -> xt.XT:
    """Of 64-pixel regions with 4 tokens each; its context says something."""
    torch.manual_seed(0)
    model = small_model(
        context=context, context_options=SMALL_CONTEXTS[context], head=head, tokens_per_region=4, **settings
    )
    with torch.no_grad():
        for parameter in model.context_encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def pixels(height: int = 210, width: int = 330) -> np.ndarray:
    """Smooth hills with noise, of three channels."""
    y, x = np.mgrid[:height, :width]
    hills = 127 + 60 * np.sin(y / 23) + 60 * np.cos(x / 31)
    noise = np.random.default_rng(0).normal(0, 20, (height, width, 3))
    return np.clip(hills[..., None] + noise, 0, 255).astype(np.uint8)


def written_image(path: Path, **size: int) -> Path:
    """`pixels` as a TIFF."""
    tifffile.imwrite(path, pixels(**size), photometric="rgb")
    return path


def assert_same_answers(
    model: xt.XT, folder: Path, *sizes: tuple[int, int], limit: float = 1e-5, **looking: float
) -> None:
    """Of a model with one answer an image: logits, weights and embedding, and which regions were looked at.

    Args:
        looking: budget or seconds, as of `xt.Predictor`.
    """
    exported, _ = load_exported(folder)
    for size in sizes:
        image = xt.open_image(pixels(*size))
        wanted, found = (xt.Predictor(one, "cpu", **looking).predict(image) for one in (model, exported))
        assert list(found.images[0].grid) == list(wanted.images[0].grid)
        for name in ("logits", "probabilities", "weights", "embedding"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=limit, err_msg=name)
        assert found.label == wanted.label


def assert_same_places(model: xt.XT, folder: Path, *sizes: tuple[int, int], limit: float = 1e-5) -> None:
    """Of a model that answers about every place: what its head says of each region."""
    exported, _ = load_exported(folder)
    for size in sizes:
        image = xt.open_image(pixels(*size))
        raw: list[list[torch.Tensor]] = [[], []]
        for one, kept in zip((model.eval(), exported), raw, strict=True):
            for _ in one.decode(image, on_predictions=lambda _, said, kept=kept: kept.append(said)):
                pass
        wanted, found = (torch.cat(kept) for kept in raw)
        torch.testing.assert_close(found, wanted, atol=limit, rtol=1e-5)
