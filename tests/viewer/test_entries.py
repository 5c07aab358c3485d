"""The list of images, sorted and chosen."""

import pytest

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from tests.viewer.found_files import answer_model, found_folder, write_scene
from xt.errors import ConfigError
from xt.viewer.entries import Entry, chosen_entries, next_in_doubt, sorted_entries
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import read_labels
from xt.viewer.viewer import Viewer

LIST = [
    Entry(number=0, name="b.svs", answer="tumour", label="tumour", score=0.9, error=0.0, state="accepted"),
    Entry(number=1, name="a.svs", answer="healthy", label="tumour", score=0.55, in_doubt=True, error=1.0),
    Entry(number=2, name="c.svs"),
    Entry(number=3, name="D.svs", answer="tumour", score=0.6, in_doubt=True),
    Entry(number=4, name="e.svs", answer="healthy", score=0.51, in_doubt=True, state="rejected"),
]


def numbers(entries):
    return [entry.number for entry in entries]


def test_what_is_not_known_comes_last_either_way():
    assert numbers(sorted_entries(LIST, "score")) == [4, 1, 3, 0, 2]
    assert numbers(sorted_entries(LIST, "score", descending=True)) == [0, 3, 1, 4, 2]
    assert numbers(sorted_entries(LIST, "error", descending=True)) == [1, 0, 2, 3, 4]
    assert numbers(sorted_entries(LIST, "answer")) == [1, 4, 0, 3, 2]
    with pytest.raises(ConfigError, match="sorted by one of number, name"):
        sorted_entries(LIST, "colour")


def test_entries_are_chosen_by_all_that_is_asked():
    assert numbers(chosen_entries(LIST, text="d.SVS")) == [3]
    assert numbers(chosen_entries(LIST, text="tum")) == [0, 1, 3]
    assert numbers(chosen_entries(LIST, answers=["healthy"])) == [1, 4]
    assert numbers(chosen_entries(LIST, in_doubt=True, done=False)) == [1, 3]
    assert numbers(chosen_entries(LIST, least_score=0.55, most_score=0.6)) == [1, 3]
    assert numbers(chosen_entries(LIST, least_error=0.5)) == [1]
    assert numbers(chosen_entries(LIST)) == [0, 1, 2, 3, 4]


def test_the_next_in_doubt_goes_round_and_leaves_out_what_is_done():
    assert next_in_doubt(LIST, 0).number == 1
    assert next_in_doubt(LIST, 1).number == 3
    assert next_in_doubt(LIST, 3).number == 1
    assert next_in_doubt(LIST[:1], 0) is None


def test_found_answers_are_compared_with_labels(tmp_path):
    found = FoundAnswers(found_folder(tmp_path, "classification"))
    said = found.of(found.images[0]).row["predicted"]
    other = next(name for name in ("healthy", "tumour") if name != said)
    (tmp_path / "table.csv").write_text(f"image,label\nscene.png,{other}\n")
    labels = read_labels(tmp_path / "table.csv", "classification", ["healthy", "tumour"])
    (entry,) = Viewer(found.images, found=found, labels=labels).entries
    assert (entry.answer, entry.label, entry.error) == (said, other, 1.0)
    assert 0.5 <= entry.score <= 1
    viewer = Viewer(found.images, found=found, labels=labels)
    viewer.answer(0, "accepted", 0)
    assert viewer.corrected.rows() == [{"image": "../scene.png", "label": said}]
    assert viewer.entries[0].done


def test_the_answer_of_a_mask_is_what_lies_on_the_background(tmp_path):
    found = FoundAnswers(found_folder(tmp_path, "segmentation"))
    answer = found.of(found.images[0])
    (entry,) = Viewer(found.images, found=found).entries
    counts = {
        name: int(answer.row[f"pixels({name})"]) for name in ("ship", "ice") if answer.row[f"pixels({name})"]
    }
    assert entry.answer == ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    assert "sea" not in entry.answer


def test_the_images_of_a_case_are_opened_each_with_its_own_map(tmp_path):
    sizes = {"one.png": (100, 130), "two.png": (140, 90), "alone.png": (80, 80)}
    for name, (height, width) in sizes.items():
        write_scene(tmp_path / name, height, width)
    (tmp_path / "cases.csv").write_text("image,patient\none.png,P1\ntwo.png,P1\nalone.png,P2\n")
    table = tmp_path / "cases.csv"
    xt.predict(answer_model(case_images=2), table, tmp_path / "found", device="cpu", case_column="patient")
    viewer = Viewer(FoundAnswers(tmp_path / "found").images, found=FoundAnswers(tmp_path / "found"))
    assert [entry.name for entry in viewer.entries] == ["P1: one.png", "P1: two.png", "P2: alone.png"]
    first, second, _ = viewer.entries
    assert (first.answer, first.score) == (second.answer, second.score) != ("", None)
    for number, shape in enumerate(sizes.values()):
        image = viewer.image(number)
        assert image.image.shape == shape
        assert [layer["name"] for layer in image.facts()["layers"]] == ["relevance"]
