"""Folders of results and tables of labels as `xt predict` and people write them, small."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import xt
from tests.prediction.dense_models import dense_model, scene


def answer_model(**settings):
    """Classes about whole images."""
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}
    defaults = {
        "num_classes": 2, "class_names": ["healthy", "tumour"], "region_size": 64, "dim": 16, "tokens_per_region": 4,
        "context": "none", "encoder_options": options,
    }  # fmt: skip
    return xt.create_model("convnext_atto", **(defaults | settings)).eval()


def write_scene(path: Path, height: int = 300, width: int = 410) -> Path:
    Image.fromarray(scene(height, width)).save(path)
    return path


def found_folder(folder: Path, head: str, **options) -> Path:
    """What a model of this head found on one scene: FOLDER/scene.png and FOLDER/found."""
    folder.mkdir(exist_ok=True)
    image = write_scene(folder / "scene.png")
    model = answer_model() if head == "classification" else dense_model(head)
    result = xt.predict(model, str(image), folder / "found", device="cpu", **options)
    assert not result.failed
    return folder / "found"


def point_labels(folder: Path, places: list[tuple[float, float, str]]) -> Path:
    """A table with a file of points of scene.png, each (y, x, class)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [x, y]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for y, x, name in places
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "labels.geojson").write_text(text)
    (folder / "table.csv").write_text("image,points\nscene.png,labels.geojson\n")
    return folder / "table.csv"


def mask_labels(folder: Path, mask: np.ndarray) -> Path:
    Image.fromarray(mask).save(folder / "labels.png")
    (folder / "table.csv").write_text("image,mask\nscene.png,labels.png\n")
    return folder / "table.csv"
