"""`xt completion`: scripts that know every command, option and recipe; bash is asked, where it is there."""

import shutil
import subprocess
from pathlib import Path

import pytest

from xt.cli.main import COMMANDS, main
from xt.recipes import recipes


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import contextlib
    import io

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["completion", "bash"]) == 0
    path = tmp_path_factory.mktemp("completion") / "xt.bash"
    path.write_text(output.getvalue())
    return path


def completed(script: Path, line: str, folder: Path) -> set[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    program = (
        f"source {script}; COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        "_shtab_xt; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=folder, check=True)
    return set(done.stdout.split())


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@bash
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xt ", set(COMMANDS)),
        ("xt comp", {"compare", "completion"}),
        ("xt train cla", {"classification"}),
        ("xt train mi", {"mine.yaml"}),
        ("xt train --optim.l", {"--optim.lr", "--optim.layer_decay"}),
        ("xt train points --data.ta", {"--data.table"}),
        ("xt compare coco/swin_t_m", {"coco/swin_t_mamba"}),
        ("xt plan --model det", {"detection"}),
        ("xt encode segm", {"segmentation"}),
        ("xt check --config xv", {"xview3"}),
        ("xt predict --dev", {"--device"}),
        ("xt info sl", {"slides.tif"}),
        ("xt recipes sh", {"show"}),
        ("xt recipes show po", {"points"}),
        ("xt recipes show coco/swin_t_m", {"coco/swin_t_mamba"}),
        ("xt train points --data.table sl", {"slides.tif"}),
        ("xt evaluate runs --split te", set()),
        ("xt completion z", {"zsh"}),
        ("xt train --data.view d", {"downsample"}),
    ],
)
def test_bash_completes(script: Path, tmp_path: Path, line: str, offered: set[str]) -> None:
    (tmp_path / "slides.tif").touch()
    (tmp_path / "mine.yaml").touch()
    found = completed(script, line, tmp_path)
    assert offered <= found
    if line != "xt ":
        assert found == offered


def test_zsh_knows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef xt")
    assert all(f"\n    {name}:'" in script for name in COMMANDS)
    assert all(name in script for name in recipes())
    assert "--data.table" in script


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert "choose from" in capsys.readouterr().err
