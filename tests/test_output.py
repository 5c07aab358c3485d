import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xt.errors import ImageError, OutputError
from xt.output import (
    atomic_folder,
    atomic_path,
    check_writable_folder,
    own_folder,
    remove_leftovers,
    remove_leftovers_of,
    write_atomically,
)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_under_its_name_only_at_the_end(tmp_path):
    with atomic_path(tmp_path / "map.tif") as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        assert not (tmp_path / "map.tif").exists()
    assert (tmp_path / "map.tif").read_text() == "half"
    assert files_in(tmp_path) == ["map.tif"]


def test_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "result", "x")
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_are_the_usual_ones_whatever_a_library_gives_its_files(tmp_path, umask):
    def by_library(path):
        private = path.with_name("of-the-library")
        os.close(os.open(private, os.O_CREAT | os.O_WRONLY, 0o600))
        os.replace(private, path)

    before = os.umask(umask)
    try:
        (tmp_path / "plain").touch()
        with atomic_path(tmp_path / "file") as temporary:
            by_library(temporary)
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "in").mkdir()
            by_library(temporary / "one")
            by_library(temporary / "in" / "two")
    finally:
        os.umask(before)
    usual = (tmp_path / "plain").stat().st_mode
    for path in ("file", "folder/one", "folder/in/two"):
        assert (tmp_path / path).stat().st_mode == usual, path


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, ImageError])
def test_a_failure_keeps_the_older_file_and_leaves_nothing(tmp_path, kind):
    (tmp_path / "map.tif").write_text("older")
    with pytest.raises(kind, match="of the block"), atomic_path(tmp_path / "map.tif") as temporary:  # noqa: PT012
        temporary.write_text("half")
        Path(f"{temporary}.aux.xml").write_text("beside")
        raise kind("of the block")
    assert files_in(tmp_path) == ["map.tif"]
    assert (tmp_path / "map.tif").read_text() == "older"


def test_an_error_about_another_file_is_not_called_a_failed_write(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "map.tif"):
        (tmp_path / "source.txt").read_text()


def test_missing_folder(tmp_path):
    expected = r"Could not write .*map\.tif: the folder .*nowhere does not exist\. Make it first"
    with pytest.raises(OutputError, match=expected), atomic_path(tmp_path / "nowhere" / "map.tif"):
        raise AssertionError("the block must not run")


def test_path_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="is a file, not a folder"),
        atomic_path(tmp_path / "file" / "map.tif"),
    ):
        raise AssertionError("the block must not run")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_writable_folder(tmp_path / "file")


def test_name_taken_by_a_folder(tmp_path):
    (tmp_path / "map.tif").mkdir()
    with pytest.raises(OutputError, match=r"there is a folder of this name"):
        write_atomically(tmp_path / "map.tif", "x")
    assert files_in(tmp_path) == ["map.tif"]


def test_no_permission(tmp_path, monkeypatch):
    # Root may write anywhere, so the system's answer is put in by hand.
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="no permission to write in"):
        write_atomically(tmp_path / "map.tif", "x")


def test_no_space_while_flushing(tmp_path, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"the disk is full .*Make room or write to another folder"):
        write_atomically(tmp_path / "map.tif", "x")
    assert files_in(tmp_path) == []


def test_very_long_names_fit(tmp_path):
    name = "ö" * 122 + ".tif"
    write_atomically(tmp_path / name, b"x")
    assert files_in(tmp_path) == [name]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "keep.csv").touch()
    killed = (
        "import os, sys; from xt.output import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t: t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / "map.tif")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "map.tif").exists()
    assert remove_leftovers(tmp_path) == 1
    assert files_in(tmp_path) == ["keep.csv"]


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, rasterio
from xt.errors import OutputError
from xt.output import atomic_path
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
pixels = np.random.default_rng(0).integers(0, 255, (1, 512, 512), dtype=np.uint8)
try:
    with atomic_path(sys.argv[1]) as temporary:
        if sys.argv[2] == "rasterio":
            with rasterio.open(temporary, "w", driver="GTiff", width=512, height=512, count=1, dtype="uint8",
                               tiled=True, blockxsize=256, blockysize=256) as file:
                file.write(pixels)
        elif sys.argv[2] == "torch":
            import torch
            torch.save(torch.from_numpy(pixels), temporary)
        else:
            temporary.write_bytes(pixels.tobytes())
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("writer", ["rasterio", "torch", "plain"])
def test_a_real_limit_of_space_while_writing(tmp_path, writer):
    destination = tmp_path / "map.tif"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(destination), writer], capture_output=True, text=True, check=True
    )
    assert f"Could not write {destination}" in done.stdout
    assert writer != "torch" or "a size limit was reached" in done.stdout
    assert files_in(tmp_path) == []


def test_writing_does_not_look_through_the_folder_which_may_hold_a_hundred_thousand_results(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Path, "glob", lambda *_: pytest.fail("looked through the folder"))
    with atomic_path(tmp_path / "map.tif") as temporary:
        temporary.write_bytes(b"x")
        temporary.with_name(temporary.name + ".aux.xml").touch()
    monkeypatch.undo()
    assert files_in(tmp_path) == ["map.tif"]


def test_check_makes_the_folder_and_leaves_it_empty(tmp_path):
    assert check_writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert files_in(tmp_path / "a" / "b") == []


def fail_in(place: Path, written: Path | None = None):
    with own_folder(place, "train") as folder:
        assert folder.is_dir()
        if written is not None:
            written.write_text("kept")
        raise ZeroDivisionError


@pytest.mark.parametrize("is_there", [False, True])
def test_a_block_that_fails_before_it_writes_leaves_no_folder_of_its_own(tmp_path, is_there):
    base = tmp_path / "runs"
    if is_there:
        base.mkdir()
    with pytest.raises(ZeroDivisionError):
        fail_in(base / "a" / "b")
    assert list(tmp_path.rglob("*")) == ([base] if is_there else [])


@pytest.mark.parametrize("written", ["a/b/weights", "a/other"])
def test_a_block_that_fails_leaves_what_was_written(tmp_path, written):
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "a" / "b", tmp_path / written)
    assert (tmp_path / written).read_text() == "kept"
    assert (tmp_path / "a" / "b").exists() == written.startswith("a/b")


def test_a_folder_in_use_stays(tmp_path):
    with own_folder(tmp_path / "a", "train") as folder:
        with (
            pytest.raises(OutputError, match="another `xt train` is writing to"),
            own_folder(folder, "train"),
        ):
            pass
        assert folder.is_dir()
        (folder / "weights").write_text("kept")
    assert (folder / "weights").exists()


def test_content_is_written_whole(tmp_path):
    content = np.arange(1000).tobytes()
    write_atomically(tmp_path / "numbers", content)
    assert (tmp_path / "numbers").read_bytes() == content


def test_a_folder_is_there_completely_or_as_it_was(tmp_path):
    final = tmp_path / "store.zarr"
    with atomic_folder(final) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("old")
        assert not final.exists()

    def break_off() -> None:
        with atomic_folder(final) as folder:
            (folder / "b").write_text("half")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        break_off()
    assert (final / "inner" / "a").read_text() == "old"
    with atomic_folder(final) as folder:
        (folder / "b").write_text("new")
    assert [path.name for path in final.iterdir()] == ["b"]
    with pytest.raises(OutputError, match="the disk is full"), atomic_folder(final) as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "c"))
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]
    with pytest.raises(OutputError, match="does not exist"), atomic_folder(tmp_path / "none" / "x"):
        pass


def test_leftover_folders_are_removed(tmp_path):
    with atomic_folder(tmp_path / "x") as folder:
        shutil.copytree(folder, tmp_path / ".y.xt-part-0123")
        (tmp_path / ".y.xt-part-0123" / "z").write_text("half")
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_leftovers_of_one_file_alone(tmp_path):
    ours = [".scene.mask.xt-part-00aa11bb.tif", ".scene.mask.xt-part-00aa11bb.tif.plain.tif"]
    others = [".scene2.mask.xt-part-00aa11bb.tif", ".scene.xt-part-00aa11bb.tif", "scene.mask.tif"]
    for name in ours + others:
        (tmp_path / name).touch()
    remove_leftovers_of(tmp_path / "scene.mask.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
