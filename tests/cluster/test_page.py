"""`docs/cluster.md`: its commands are commands, its manifest is one."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

from xt.cli import predict
from xt.cluster.manifest import MANIFEST, Manifest, read_manifest
from xt.cluster.units import Outcome, WorkUnit

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """The lines that begin with the program; what follows three blanks says what they do."""
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith(program)]
    return [shlex.split(re.split(r"   +", line)[0], comments=True) for line in lines]


def test_the_commands_are_understood():
    parser = argparse.ArgumentParser(exit_on_error=False)
    predict.add_arguments(parser)
    found = [parser.parse_args(command[2:]) for command in commands("xt predict")]
    assert len(found) == 5
    assert [each.workers for each in found] == [8, 4, None, 2, None]
    assert [each.cluster for each in found] == [None, None, "auto", "local", "auto"]


def test_the_manifest_looks_like_this(tmp_path):
    (block,) = blocks("json")
    shown = [json.loads(line) for line in block.splitlines()]
    (tmp_path / MANIFEST).write_text(block)
    assert len(list(read_manifest(tmp_path, shown[0]["checkpoint"]))) == 4
    unit = WorkUnit(image="a.tif", stem="a")
    (tmp_path / MANIFEST).unlink()
    with Manifest(tmp_path, "abc") as manifest:
        manifest.add(Outcome(unit=unit), {})
        manifest.add(Outcome(unit=unit, failure="torn"))
        manifest.add(Outcome(unit=unit, bands=((0, 64),)))
        manifest.add(Outcome(unit=WorkUnit(image="a.tif", stem="a", band=(0, 64))))
    written = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert [list(line) for line in written] == [list(line) for line in shown]


@pytest.mark.slow
def test_ray_has_these_options():
    scripts = pytest.importorskip("ray.scripts.scripts")
    for _, command, *options in commands("ray "):
        known = {name for parameter in getattr(scripts, command).params for name in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known
    assert len(commands("ray ")) == 3
