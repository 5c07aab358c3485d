import json
import os
from pathlib import Path

import pytest

from xt.cluster.manifest import MANIFEST, Manifest, read_manifest, sees_run
from xt.cluster.units import Outcome, WorkUnit
from xt.errors import OutputError

UNIT = WorkUnit(image="a.tif", stem="a")


def test_a_line_for_each_outcome(tmp_path):
    with Manifest(tmp_path, "abc") as manifest:
        manifest.add(Outcome(unit=UNIT, worker="host:1", seconds=2.5), {"stem": "a"})
        manifest.add(Outcome(unit=UNIT, failure="it is damaged"))
        manifest.add(Outcome(unit=UNIT, bands=((0, 3), (3, 4))))
        manifest.add(Outcome(unit=WorkUnit(image="a.tif", stem="a", band=(0, 3))))
        # There at once, not when the run ends.
        lines = list(read_manifest(tmp_path, "abc"))
        assert sees_run(tmp_path, manifest.run)
    assert [line["status"] for line in lines] == ["done", "failed", "cut", "band done"]
    assert (lines[0]["worker"], lines[0]["seconds"], lines[0]["result"]) == ("host:1", 2.5, {"stem": "a"})
    assert lines[1]["reason"] == "it is damaged"
    assert (lines[2]["bands"], lines[3]["band"]) == (2, [0, 3])
    assert not sees_run(tmp_path, "0" * 16)
    assert not sees_run(tmp_path / "elsewhere", manifest.run)


def test_runs_of_other_checkpoints_and_halves_of_lines_are_left_out(tmp_path):
    for checkpoint in ("abc", "other", "abc"):
        with Manifest(tmp_path, checkpoint) as manifest:
            manifest.add(Outcome(unit=UNIT, worker=checkpoint))
            with (tmp_path / MANIFEST).open("a") as file:
                file.write('{"image": "half')
    lines = list(read_manifest(tmp_path, "abc"))
    assert [line["worker"] for line in lines] == ["abc", "abc"]
    with (tmp_path / MANIFEST).open() as file:
        whole = [json.loads(line) for line in file if not line.startswith('{"image": "half')]
    assert len(whole) == 6, "what follows half a line begins on a line of its own"
    assert list(read_manifest(tmp_path / "nowhere", "abc")) == []


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"Could not write .*manifest\.jsonl: No such file"):
        Manifest(tmp_path / "missing", "abc")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_one_sentence(tmp_path):
    def fill() -> None:
        with Manifest(tmp_path, "abc") as manifest:
            manifest._file.close()
            manifest._file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
            manifest.add(Outcome(unit=UNIT))

    sentence = r"Could not write .*manifest\.jsonl: No space left on device\. Make room"
    with pytest.raises(OutputError, match=sentence):
        fill()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / MANIFEST).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=sentence):
        Manifest(tmp_path / "full", "abc")
