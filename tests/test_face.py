"""The public face as the documentation writes it, on real files."""

import re
from pathlib import Path

import pytest
import torch

import xt
from tests.shared_data import shared_data
from xt.context_encoders import create_context_encoder
from xt.data.dense_table import read_mask_table
from xt.data.table_files import read_table
from xt.heads import create_head

ROOT = Path(__file__).resolve().parents[1]
SLIDE = "wsi_cmu_small_region/CMU-1-Small-Region.svs"
SCENE = "geotiff_rasterio/RGB.byte.tif"


def code_block(page: str, starting: str) -> str:
    """The Python block of a page that starts with these words."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    return next(block for block in blocks if block.startswith(starting))


@pytest.mark.slow
@pytest.mark.parametrize("file", [SCENE, SLIDE])
def test_five_lines_train_on_a_real_file(file):
    """`README.md`, as written but for the file's name; on the slide's first 700 pixels, to save minutes."""
    code = code_block("README.md", "import torch")
    path = shared_data(file)
    names = {"crop": lambda image: image.crop(0, 0, 700, 700) if file == SLIDE else image}
    code = code.replace('xt.open_image("scene.tif")', f"crop(xt.open_image({str(path)!r}))")
    exec(code, names)
    assert names["logits"].shape == (1, 10)
    parameters = list(names["model"].parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)
    assert parameters[0].grad.abs().sum() > 0, "the first layer of the region encoder got no gradient"


def test_the_tables_of_the_readme_have_the_columns_that_are_read(tmp_path):
    labels, masks = re.findall(
        r"```\n(\w+,\w+,split\n.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL
    )
    (tmp_path / "slides.csv").write_text(labels)
    assert read_table(tmp_path / "slides.csv").class_names == ("normal", "tumour")
    (tmp_path / "scenes.csv").write_text(masks)
    for name in ("scenes/a.tif", "masks/a.tif"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    table = read_mask_table(tmp_path / "scenes.csv", class_names=["ground", "building"])
    assert [str(path) for path in table.paths] == [str(tmp_path / "scenes/a.tif")]


@pytest.mark.parametrize("file", [SCENE, SLIDE])
def test_the_flow_by_hand(file):
    """`docs/design.md`, as written but for the file's name."""
    names = {
        "xt": xt,
        "torch": torch,
        "create_context_encoder": create_context_encoder,
        "create_head": create_head,
    }
    code = code_block("docs/design.md", 'image = xt.open_image("scene.tif")').replace(
        "scene.tif", str(shared_data(file))
    )
    with torch.no_grad():
        exec(code, names)
    assert names["logits"].shape == (1, 10)
    assert names["relevance"].sum().item() == pytest.approx(1, abs=1e-4)
    assert len(names["positions"]) == names["tokens"].shape[0] * names["tokens"].shape[1]
