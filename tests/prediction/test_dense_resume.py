import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.prediction.interruption import BATCHES_OF_5, pixels_of, stopped
from tests.processes import python
from xt.errors import OutputError
from xt.prediction.dense_predictor import DensePredictor
from xt.streaming.map import Streaming
from xt.tasks.place_results import DenseOptions

PLAIN = DenseOptions()


@pytest.fixture(scope="module")
def model():
    return dense_model()


@pytest.mark.parametrize("batches", [0, 1, 4, 6])
def test_a_stopped_prediction_goes_on_where_it_was(model, tmp_path, monkeypatch, batches):
    image = xt.open_image(scene())
    options = DenseOptions(probabilities=True)
    whole = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole", options)
    stopped(model, image, tmp_path / "scene", batches, monkeypatch, options=options)
    assert sorted(path.name for path in tmp_path.glob("scene*")) == ["scene.partial"]
    firsts = []
    decode = model.decode

    def decode_from(*arguments, **given):
        firsts.append(given["first_batch"])
        return decode(*arguments, **given)

    monkeypatch.setattr(model, "decode", decode_from)
    monkeypatch.setattr(model, "context", None)
    # As one leaves it that was killed while it wrote, which it only does when all is decoded.
    left = tmp_path / ".scene.mask.xt-part-0123abcd.tif"
    left.touch()
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "scene", options)
    assert firsts == [batches], "and the tokens are not computed again"
    for what, path in result.files.items():
        np.testing.assert_array_equal(pixels_of(path), pixels_of(whole.files[what]))
    assert left.exists() == (batches == 0)
    assert sorted(path.name for path in tmp_path.glob("scene*")) == [
        "scene.mask.tif", "scene.mask.tif.aux.xml", "scene.probabilities.tif",
    ]  # fmt: skip


def test_a_region_batch_in_pieces_is_stored_whole(model, tmp_path, monkeypatch):
    # As it comes where the device ran out of memory.
    image = xt.open_image(scene())
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5)
    whole = predictor.predict(image, tmp_path / "whole")
    decode = model.decode

    def in_pieces(*arguments, **given):
        for regions, predictions in decode(*arguments, **given):
            for start in range(0, len(regions), 2):
                yield regions[start : start + 2], predictions[start : start + 2]

    monkeypatch.setattr(model, "decode", in_pieces)
    result = predictor.predict(image, tmp_path / "scene")
    np.testing.assert_array_equal(pixels_of(result.files["mask"]), pixels_of(whole.files["mask"]))


def test_what_does_not_belong_together_is_not_mixed(model, tmp_path, monkeypatch):
    path = tmp_path / "scene.png"
    Image.fromarray(scene()).save(path)
    stopped(model, path, tmp_path / "scene", 3, monkeypatch)

    def refused(expected: str, other=model, streaming=BATCHES_OF_5, options=PLAIN) -> None:
        with pytest.raises(
            OutputError, match=f"unfinished prediction with another {expected}, which cannot be"
        ):
            DensePredictor(other, "cpu", streaming).predict(path, tmp_path / "scene", options)

    other = dense_model()
    with torch.no_grad():
        other.head.predict.bias[0] += 1
    refused("model", other)
    refused("region batch", streaming=Streaming(region_batch=7))
    refused("choice of results", options=DenseOptions(probabilities=True))
    os.utime(path, ns=(1, 1))
    refused("image")
    result = DensePredictor(model, "cpu").predict(path, tmp_path / "scene", DenseOptions(restart=True))
    assert not (tmp_path / "scene.partial").exists()
    whole = DensePredictor(model, "cpu").predict(path, tmp_path / "whole")
    np.testing.assert_array_equal(pixels_of(result.files["mask"]), pixels_of(whole.files["mask"]))


def test_a_region_batch_that_nobody_chose_is_taken_from_what_is_there(model, tmp_path, monkeypatch):
    image = xt.open_image(scene())
    stopped(model, image, tmp_path / "scene", 3, monkeypatch)
    used = []
    decode = model.decode

    def decode_with(*arguments, **given):
        used.append((model.streaming.region_batch, given["first_batch"]))
        return decode(*arguments, **given)

    monkeypatch.setattr(model, "decode", decode_with)
    DensePredictor(model, "cpu").predict(image, tmp_path / "scene")
    assert used == [(5, 3)]


def test_an_array_of_other_pixels_is_another_image(model, tmp_path, monkeypatch):
    stopped(model, xt.open_image(scene()), tmp_path / "scene", 1, monkeypatch)
    with pytest.raises(OutputError, match="another image, which"):
        DensePredictor(model, "cpu", BATCHES_OF_5).predict(scene()[::-1].copy(), tmp_path / "scene")


def test_a_disk_without_room_is_noticed_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
    with pytest.raises(
        OutputError, match=r"scene\.partial will take 0\.000143 GB until .* only 0\.0001 GB are free"
    ):
        DensePredictor(model, "cpu").predict(scene(), tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, random, signal, sys, time, torch
from pathlib import Path
from tests.prediction.dense_models import dense_model, scene
from xt.tasks.place_results import DenseOptions
from xt.prediction.dense_predictor import DensePredictor
from xt.streaming.map import Streaming

torch.set_num_threads(1)
folder, head, wanted = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
model, image = dense_model(head), scene(600, 700)
predictor = DensePredictor(model, "cpu", Streaming(region_batch=3, threads=1), checkpoint="abc")
options = DenseOptions(probabilities=True, outlines=(1, 2))

def run(name, events=None):
    "In a process of its own, killed a moment after so many steps of progress; whether it came to its end."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        predictor.predict(image, folder / name, options, lambda *step: os.write(writer, b"."))
        os._exit(0)
    os.close(writer)
    while events is None or events > 0:
        if not os.read(reader, 1):
            break
        events = None if events is None else events - 1
    else:
        time.sleep(random.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.waitpid(child, 0)[1] == 0

run("whole")
random.seed(0)
kills, batches = 0, []
while kills < wanted:
    partial = folder / "scene.partial"
    # The encoding takes 37 steps, the decoding as many, and the writing some more.
    if run("scene", random.randint(0, 15 if (partial / "context.pt").exists() else 50)):
        for path in folder.glob("scene*"):
            path.unlink()
        continue
    kills += 1
    journal = partial / "journal"
    batches.append(journal.stat().st_size // 24 if journal.exists() else -1)
print(run("scene"), *batches)
"""


def killed_at_random(folder, head: str, kills: int) -> None:
    """Predictions "whole" and "scene" in a folder, the second killed so many times, and nothing else."""
    ended = python("-c", KILLED, folder, head, kills)
    assert ended.returncode == 0, ended.stderr
    done = ended.stdout.split()
    assert done[0] == "True"
    batches = [int(size) for size in done[1:]]
    assert len(batches) == kills
    assert len({number for number in batches if number > 0}) >= kills // 3, "it went on from kill to kill"
    left = {path.name for path in folder.iterdir()} - {path.name for path in folder.glob("whole*")}
    assert left == {path.name.replace("whole", "scene") for path in folder.glob("whole*")}, (
        "nothing else is left"
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and sends signals")
def test_a_mask_killed_ten_times_at_random_is_the_same(tmp_path):
    killed_at_random(tmp_path, "segmentation", 10)
    for ending in (".mask.tif", ".probabilities.tif"):
        np.testing.assert_array_equal(
            pixels_of(tmp_path / f"scene{ending}"), pixels_of(tmp_path / f"whole{ending}")
        )
    outlines = [(tmp_path / f"{name}.outlines.geojson").read_bytes() for name in ("scene", "whole")]
    assert outlines[0] == outlines[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and sends signals")
def test_boxes_killed_four_times_at_random_are_the_same(tmp_path):
    killed_at_random(tmp_path, "detection", 4)
    for ending in (".boxes.csv", ".boxes.geojson"):
        scene, whole = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("scene", "whole"))
        assert scene == whole
        assert whole.count(b"ship") > 100
