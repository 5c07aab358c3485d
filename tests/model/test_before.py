"""Models saved before region encoders were an interface (commit fbfecda) load, and say what they said then."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import xt
from xt.region_encoders.weight_files import read_safetensors

BEFORE = Path(__file__).parent / "before"


def pattern(channels: int) -> np.ndarray:
    y, x = np.mgrid[:100, :130]
    bands = [(y * (band + 2) + x * (3 * band + 1)) % 251 for band in range(channels)]
    return np.stack(bands, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_models_of_before_say_what_they_said(name: str, tmp_path: Path) -> None:
    model = xt.load_model(BEFORE / f"{name}.safetensors").eval()
    image = xt.open_image(pattern(model.region_encoder.in_channels))
    with torch.no_grad():
        if name == "classification":
            answer = model(image)
        else:
            answer = torch.cat([part.predictions for part in model.decode(image)])[:, :, ::8, ::8]
    # Another processor rounds otherwise.
    torch.testing.assert_close(
        answer, load_file(BEFORE / f"{name}_answer.safetensors")["answer"], rtol=1e-4, atol=1e-5
    )
    model.save(tmp_path / "again.safetensors")
    (metadata, weights), (metadata_then, weights_then) = (
        read_safetensors(path) for path in (tmp_path / "again.safetensors", BEFORE / f"{name}.safetensors")
    )
    said, said_then = json.loads(metadata["config"]), json.loads(metadata_then["config"])
    # What came later has its defaults, but for what a token is made of: that was one thing then.
    defaults = asdict(xt.ModelConfig(encoder="any"))
    later = {name: value for name, value in defaults.items() if name not in said_then}
    assert said == said_then | later | {"readout": "last_map"}
    assert weights.keys() == weights_then.keys()
    assert all(torch.equal(weights[key], weights_then[key]) for key in weights)
