"""`docs/detection_backbone.md` as it is written, on a COCO folder of shapes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from tests.small_detectors import shapes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detection_backbone.md"


@pytest.fixture
def coco_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures of discs and squares, one with nothing, one with a crowd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotations").mkdir()
    generator = torch.Generator().manual_seed(0)
    content: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "disc"}, {"id": 3, "name": "square"}],
    }
    for number in range(4):
        height, width = 100 + 10 * number, 140
        image, target = shapes(generator, height, width)
        name = f"{number:012}.jpg"
        picture: Image.Image = to_pil_image(image)
        picture.save(tmp_path / "train2017" / name)
        content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        if number == 2:
            continue
        for place in range(len(target["labels"])):
            x0, y0, x1, y1 = target["boxes"][place].tolist()
            thing = {
                "id": 1 + len(content["annotations"]),
                "image_id": number,
                "category_id": [1, 3][int(target["labels"][place]) - 1],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                "iscrowd": 0,
            }
            if number == 1 and place == 0:
                counts = [0, height * width]
                thing |= {"iscrowd": 1, "segmentation": {"counts": counts, "size": [height, width]}}
            content["annotations"].append(thing)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return tmp_path


# pycocotools decodes masks in a manner that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_page_says_what_comes_out(coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        lines: list[str] = []
        for line in block.splitlines():
            code, said = line.partition("  # -> ")[::2]
            if not said:
                lines.append(line)
                continue
            exec("\n".join(lines), names)
            lines = []
            assert repr(eval(code, names)) == said, code
            checked += 1
        exec("\n".join(lines), names)
    assert checked == len(re.findall("  # -> ", PAGE.read_text()))
    assert checked >= 8
    _, target = names["data"][1]
    assert len(target["labels"]) == len(target["boxes"]) == 2, "the crowd is no object to learn"
    assert len(names["data"][2][1]["labels"]) == 0
    capsys.readouterr()
