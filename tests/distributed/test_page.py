"""`docs/scale.md` on training: its loop as it is written, and its command's options."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.distributed.processes import ROOT, run_processes
from tests.training.toy import toy_config, toy_table
from xt.cli.configuration import config_of
from xt.cli.train import USAGE
from xt.config.parser import config_to_yaml
from xt.errors import ConfigError
from xt.training.run import train

PAGE = (ROOT / "docs" / "scale.md").read_text()


def test_the_commands_options_are_those_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "slides.yaml"
    file.write_text(config_to_yaml(toy_config(tmp_path / "table.csv", tmp_path / "run")))
    lines = [line.split("#")[0].split()[2:] for line in PAGE.splitlines() if line.startswith("xt train")]
    assert len(lines) == 3
    found = []
    for _, *options in lines:
        config = config_of("train", [str(file), *options], USAGE)
        assert config is not None
        found.append((config.train.devices, config.train.nodes, config.train.region_parallel))
    assert found == [(8, 1, 1), (8, 1, 8), (8, 4, 8)]


def test_devices_that_cannot_be_divided_so(tmp_path: Path) -> None:
    table = toy_table(tmp_path / "toy", train=3, val=0, test=0)
    config = toy_config(table, tmp_path / "run", train={"region_parallel": 2})
    with pytest.raises(
        ConfigError, match=r"region_parallel is 2, which does not divide the 1 processes of this run"
    ):
        train(config)


@pytest.mark.slow
def test_the_loop_of_the_page(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    scene = np.random.default_rng(0).integers(0, 256, (3, 150, 200), dtype=np.uint8)
    profile = {"driver": "GTiff", "height": 150, "width": 200, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32611", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 4_000_000)}
    with rasterio.open(tmp_path / "scene_0.tif", "w", **profile, **place) as file:
        file.write(scene)
    # In one piece, so that the processes do not write into each other's line.
    code += "\nprint(f'loss {loss.item()}\\n', end='', flush=True)\ndist.destroy_process_group()"
    said = run_processes(2, "-c", code, folder=tmp_path).splitlines()
    losses = [line for line in said if line.startswith("loss")]
    assert len(losses) == 2, said
    assert len(set(losses)) == 1, said
