"""The challenge's score: cases computed on paper, perfect predictions, and a plain twin of the definition."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from xt.errors import TableError
from xt.metrics.xview3 import score

SHORE = {"a": np.array([[0.0, 0.0], [0.0, 10.0]])}


def label(row, column, *, scene="a", vessel=True, fishing=False, length=100.0, confidence="HIGH", shore=50.0):
    return {
        "scene_id": scene, "detect_scene_row": row, "detect_scene_column": column, "is_vessel": vessel,
        "is_fishing": fishing, "vessel_length_m": length, "confidence": confidence, "distance_from_shore_km": shore,
    }  # fmt: skip


def found(row, column, *, scene="a", vessel=True, fishing=False, length=100.0):
    row = label(row, column, scene=scene, vessel=vessel, fishing=fishing, length=length)
    return {
        name: value for name, value in row.items() if name not in ("confidence", "distance_from_shore_km")
    }


def test_a_scene_computed_on_paper():
    truth = [
        label(100, 100, fishing=True, length=40.0, shore=1.0),
        label(500, 100, fishing=False, length=200.0),
        label(900, 100, vessel=False, fishing=None, length=None),
        label(1300, 100, length=None),
    ]
    predictions = [
        found(100, 110, fishing=True, length=50.0),  # 100 m off: found, fishing right, length wrong by 10/40
        found(
            510, 100, fishing=True, length=150.0
        ),  # 100 m off: found, fishing wrong, length wrong by 50/200
        found(900, 100, vessel=True, length=77.0),  # found, but called a vessel; its length is not known
        found(1700, 100),  # nothing there
    ]
    result = score(predictions, truth, SHORE)
    # 3 found, 1 too many, 1 missed.
    assert result["detection_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    # Near the shore there are one label and, within 220 pixels of (0, 0..10), one prediction: they match.
    assert result["shore_f1"] == 1.0
    # Of the three found with known is_vessel: two rightly a vessel, one wrongly.
    assert result["vessel_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    # Of the two found vessels: one rightly fishing, one wrongly.
    assert result["fishing_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1))
    # The mean of 0.25 and 0.25.
    assert result["length"] == pytest.approx(0.75)
    assert result["aggregate"] == pytest.approx(0.75 * (1 + 0.75 + 1 + 0.8 + 2 / 3) / 5)
    assert list(result) == [
        "detection_f1", "shore_f1", "vessel_f1", "fishing_f1", "length", "aggregate",
    ]  # fmt: skip


def test_exactly_200_metres_is_too_far_but_takes_part_in_the_assignment():
    truth = [label(100, 100), label(100, 125)]
    assert score([found(100, 120)], [truth[0]])["detection_f1"] == 0
    assert score([found(100, 119.999)], [truth[0]])["detection_f1"] == 1
    # One prediction between: 120 is 200 m from the first and 50 m from the second. With a second prediction at 131
    # (60 m from the second only), two pairs are more than one: the first goes to exactly 200 m and is lost.
    both = score([found(100, 120), found(100, 131)], truth)
    assert both["detection_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_the_assignment_takes_two_far_pairs_rather_than_one_near():
    # Nearest first would give 106 to 105 (10 m), and leave 100 and 121 (210 m) apart: one pair instead of two.
    result = score([found(0, 106), found(0, 121)], [label(0, 105), label(0, 100)])
    assert result["detection_f1"] == 1.0


def test_predictions_at_low_labels_are_deleted_before_anything_else():
    truth = [label(100, 100), label(100, 115, confidence="LOW"), label(800, 100, confidence="LOW")]
    # 114 belongs to the LOW label in the first assignment and is gone. What is left misses nothing.
    assert score([found(100, 101), found(100, 114), found(800, 100)], truth)["detection_f1"] == 1.0
    # Without the LOW rule 114 would have been matched to the HIGH label (140 m), which is now missed.
    assert score([found(100, 114)], truth)["detection_f1"] == 0.0
    # A LOW label that was not found costs nothing; MEDIUM counts as HIGH does.
    assert score([found(100, 101)], truth)["detection_f1"] == 1.0
    assert score([found(100, 101)], [label(100, 100, confidence="MEDIUM")])["detection_f1"] == 1.0
    # Any other confidence is neither deleted nor counted: the prediction is one too many.
    assert score([found(100, 101)], [label(100, 100, confidence="")])["detection_f1"] == 0.0


@pytest.mark.parametrize(("row", "near"), [(219, True), (220, True), (220.01, False), (5000, False)])
def test_predictions_are_near_the_shore_within_2200_metres(row, near):
    truth = [label(150, 0, shore=1.5)]
    result = score([found(150, 0), found(row, 5000)], truth, {"a": [[0.0, 0.0], [0.0, 5000.0]]})
    # The label is matched; the other prediction is one too many if it is near.
    assert result["shore_f1"] == pytest.approx(2 / 3 if near else 1.0)


def test_labels_are_near_the_shore_up_to_2_km_and_a_perfect_prediction_between_2_and_2_2_costs():
    truth = [
        label(100, 0, shore=1.0),
        label(200, 0, shore=2.0),
        label(210, 5000, shore=2.1),
        label(300, 0, shore=3.0),
    ]
    predictions = [found(entry["detect_scene_row"], entry["detect_scene_column"]) for entry in truth]
    result = score(predictions, truth, {"a": [[0.0, 0.0], [0.0, 5000.0]]})
    assert result["detection_f1"] == 1.0
    # Two labels of at most 2 km, both matched; the prediction at 210 rows is near, its label is not.
    assert result["shore_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))


def test_the_shore_is_matched_anew():
    # Among all labels the prediction at row 215 goes to the label off the shore (0 m); near the shore that label is
    # gone, and the prediction matches the other one at 150 m, if no better does.
    truth = [label(200, 0, shore=1.9), label(215, 0, shore=2.5)]
    result = score([found(215, 0)], truth, {"a": [[0.0, 0.0]]})
    assert result["detection_f1"] == pytest.approx(2 / 3)
    assert result["shore_f1"] == 1.0


def test_scenes_are_pooled_and_those_without_predictions_or_labels_count():
    truth = [label(0, 0, scene="a"), label(0, 0, scene="b"), label(50, 0, scene="b")]
    predictions = [found(0, 0, scene="a"), found(0, 0, scene="c")]
    # a: found. b: two missed. c: one too many.
    assert score(predictions, truth)["detection_f1"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert score(predictions, truth, scenes=["a"])["detection_f1"] == 1.0
    assert score(predictions, truth, scenes=["a", "b"])["detection_f1"] == pytest.approx(2 / (2 + 2))


def test_near_the_shore_too_scenes_without_predictions_or_labels_count():
    shores = {name: [[0.0, 0.0]] for name in "abc"}
    truth = [label(50, 0, scene="a", shore=0.5), label(50, 0, scene="b", shore=0.5), label(900, 0, scene="c")]
    predictions = [found(50, 0, scene="a"), found(50, 0, scene="c"), found(900, 0, scene="c")]
    # a: found. b: missed. c: no label near the shore, one prediction.
    assert score(predictions, truth, shores)["shore_f1"] == pytest.approx(2 / (2 + 1 + 1))


def test_lengths_are_capped_at_500_metres_and_a_missing_one_is_wrong_by_all():
    def length(predicted, true):
        return score([found(0, 0, length=predicted)], [label(0, 0, length=true)])["length"]

    assert length(10_000.0, 400.0) == pytest.approx(1 - 100 / 400)
    assert length(450.0, 600.0) == pytest.approx(1 - 50 / 500)
    assert length(900.0, 600.0) == 1.0
    assert length(math.nan, 100.0) == 0.0
    assert length(5.0, math.nan) == 0.0  # no pair of known length
    assert length(5.0, 0.0) == 0.0
    # The mean is cut at 1, not each error: 4 and 0 make 2, hence 0.
    two = score(
        [found(0, 0, length=50.0), found(99, 0, length=10.0)],
        [label(0, 0, length=10.0), label(99, 0, length=10.0)],
    )
    assert two["length"] == 0.0
    # One missing of two: the mean of 1 and 0.
    one = score(
        [found(0, 0, length=None), found(99, 0, length=10.0)],
        [label(0, 0, length=10.0), label(99, 0, length=10.0)],
    )
    assert one["length"] == 0.5


def test_unknown_answers_have_no_part_and_missing_predictions_are_no_yes():
    truth = [
        label(0, 0, vessel=None, fishing=True),
        label(99, 0, vessel=True, fishing=None),
        label(200, 0, vessel=False),
    ]
    predictions = [
        found(0, 0, fishing=True),
        found(99, 0, vessel=None, fishing=True),
        found(200, 0, vessel=None),
    ]
    result = score(predictions, truth)
    # is_vessel known twice: a vessel not called one (missed), a structure not called one (right, not counted).
    assert result["vessel_f1"] == 0.0
    # Fishing: the first is not known to be a vessel, the second not known to fish, the third is no vessel.
    assert result["fishing_f1"] == 0.0
    # Of two vessels one is called one; of the other nothing is said, so that it is missed.
    two = score([found(0, 0), found(99, 0, vessel=None)], [label(0, 0), label(99, 0)])
    assert two["vessel_f1"] == pytest.approx(2 / 3)
    assert score(predictions[:2], [truth[0], label(99, 0, vessel=True, fishing=True)])["fishing_f1"] == 1.0


def test_a_prediction_on_the_shoreline_is_near_it():
    truth = [label(0, 0, shore=0.0)]
    assert score([found(0, 0)], truth, {"a": [[0.0, 0.0]]})["shore_f1"] == 1.0


def test_perfect_predictions_score_exactly_one():
    rng = np.random.default_rng(0)
    truth = []
    for scene in "abc":
        for _ in range(60):
            row, column = rng.uniform(0, 20_000, 2)
            # The shore is the row 0; nothing lies in the band of 2 to 2.2 km.
            row += 30 if 195 < row < 225 else 0
            vessel = bool(rng.random() < 0.8)
            truth.append(
                label(row, column, scene=scene, vessel=vessel, fishing=vessel and bool(rng.random() < 0.5),
                      length=rng.uniform(5, 600), shore=row / 100)
            )  # fmt: skip
    truth += [label(50, 400 * k, scene="b", fishing=True, shore=0.5) for k in range(9)]
    shores = {scene: [np.array([[0.0, column] for column in range(0, 20_000, 5)])] for scene in "abc"}
    assert score(truth, truth, shores) == dict.fromkeys(
        ["detection_f1", "shore_f1", "vessel_f1", "fishing_f1", "length", "aggregate"], 1.0
    )


def test_nothing_at_all_scores_zero():
    assert set(score([], [], {}).values()) == {0.0}
    assert set(score([], [label(0, 0, shore=1.0)], SHORE).values()) == {0.0}
    assert set(score([found(0, 0)], [], SHORE).values()) == {0.0}


def test_without_shorelines_the_shore_counts_nothing():
    result = score([found(0, 0, fishing=True)], [label(0, 0, fishing=True, shore=1.0)])
    assert result["shore_f1"] == 0.0
    assert result["aggregate"] == pytest.approx(4 / 5)


def test_tables_come_as_rows_columns_frames_and_files(tmp_path):
    truth = [label(0, 0, fishing=True, shore=1.0), label(99, 0, vessel=False, fishing=None, length=None)]
    predictions = [found(0, 3, fishing=True, length=80), found(400, 0)]
    expected = score(predictions, truth, SHORE)
    assert 0 < expected["aggregate"] < 1
    frame, columns = pd.DataFrame(truth), {name: [row[name] for row in truth] for name in truth[0]}
    frame.to_csv(tmp_path / "truth.csv", index=False)
    pd.DataFrame(predictions).to_csv(tmp_path / "found.csv", index=False)
    for form in (frame, columns, tmp_path / "truth.csv", str(tmp_path / "truth.csv")):
        assert score(tmp_path / "found.csv", form, SHORE) == expected
    # A shoreline of several contours, as the challenge ships them, and none.
    contours = {"a": [SHORE["a"][:1], SHORE["a"][1:]]}
    assert score(predictions, truth, contours) == expected
    assert score(predictions, truth, {"a": []})["shore_f1"] == 0.0


def test_what_cannot_be_scored_is_said(tmp_path):
    rows = [label(0, 0)]
    with pytest.raises(
        TableError, match="there is no shoreline of scene 'a'; a scene without any shore needs an empty"
    ):
        score(rows, rows, {"b": []})
    with pytest.raises(
        TableError, match=r"shoreline of scene 'a' must be points of shape \(N, 2\), got .*\(4, 3\)"
    ):
        score(rows, rows, {"a": [np.zeros((4, 3))]})
    with pytest.raises(TableError, match="the table of predictions has no column 'is_vessel'"):
        score({"scene_id": ["a"], "detect_scene_row": [1], "detect_scene_column": [1]}, rows)
    with pytest.raises(TableError, match="the table of labels has no column 'confidence'"):
        score(rows, [found(0, 0)])
    with pytest.raises(
        TableError, match="'detect_scene_row' must hold a finite number in every row, got nothing in row 1"
    ):
        score([found(0, 0), found(None, 0)], rows)
    with pytest.raises(
        TableError, match="'is_fishing' must hold True, False or nothing, got 'maybe' in row 0"
    ):
        score([found(0, 0, fishing="maybe")], rows)
    with pytest.raises(TableError, match=r"nowhere\.csv: there is no such table"):
        score(tmp_path / "nowhere.csv", rows)


def twin(predictions, truth, shores):
    """The definition once more, pair by pair, on lists of rows and the whole matrix of distances."""

    def position(row):
        return np.array([row["detect_scene_row"], row["detect_scene_column"]], float)

    def assign(some, labels):
        cost = np.array([[np.linalg.norm(position(p) - position(t)) * 10 for t in labels] for p in some])
        if cost.size == 0:
            return []
        pairs = zip(*linear_sum_assignment(np.where(cost > 200, 1e8, cost)), strict=True)
        return [(some[i], labels[j]) for i, j in pairs if cost[i, j] < 200]

    def f1(tp, fp, fn):
        return 0.0 if tp == 0 else 2 / (1 / (tp / (tp + fp)) + 1 / (tp / (tp + fn)))

    counts, shore_counts, matched = np.zeros(3), np.zeros(3), []
    for scene in {row["scene_id"] for row in [*predictions, *truth]}:
        here = [row for row in predictions if row["scene_id"] == scene]
        labels = [row for row in truth if row["scene_id"] == scene]
        low = [id(p) for p, t in assign(here, labels) if t["confidence"] == "LOW"]
        here = [row for row in here if id(row) not in low]
        labels = [row for row in labels if row["confidence"] in ("HIGH", "MEDIUM")]
        pairs = assign(here, labels)
        matched += pairs
        counts += [len(pairs), len(here) - len(pairs), len(labels) - len(pairs)]
        here = [p for p in here if any(np.linalg.norm(position(p) - q) * 10 <= 2200 for q in shores[scene])]
        labels = [row for row in labels if row["distance_from_shore_km"] <= 2]
        pairs = assign(here, labels)
        shore_counts += [len(pairs), len(here) - len(pairs), len(labels) - len(pairs)]

    def answers(name, pairs):
        known = [(p[name], t[name]) for p, t in pairs if t[name] is not None]
        return f1(*(known.count(kind) for kind in [(True, True), (True, False), (False, True)]))

    errors = [
        abs(min(p["vessel_length_m"], 500) - min(t["vessel_length_m"], 500)) / min(t["vessel_length_m"], 500)
        for p, t in matched
        if t["vessel_length_m"] is not None
    ]
    parts = [f1(*counts), f1(*shore_counts), answers("is_vessel", matched)]
    parts.append(answers("is_fishing", [pair for pair in matched if pair[1]["is_vessel"]]))
    parts.append(1 - min(sum(errors) / len(errors), 1) if errors else 0.0)
    return [*parts, parts[0] * (1 + sum(parts[1:])) / 5]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), crowd=st.sampled_from([60, 400]))
def test_equals_a_plain_twin(seed, crowd):
    rng = np.random.default_rng(seed)

    def unknown_or(value):
        return None if rng.random() < 0.3 else value

    def random_row(make, **more):
        return make(
            rng.uniform(0, crowd), rng.uniform(0, crowd), scene=str(rng.choice(list("abc"))),
            vessel=bool(rng.random() < 0.7), fishing=bool(rng.random() < 0.5), length=rng.uniform(5, 700), **more,
        )  # fmt: skip

    truth = [
        random_row(label, confidence=str(rng.choice(["HIGH", "MEDIUM", "LOW"])), shore=rng.uniform(0, 4))
        for _ in range(rng.integers(0, 25))
    ]
    for row in truth:
        row |= {name: unknown_or(row[name]) for name in ("is_vessel", "is_fishing", "vessel_length_m")}
    predictions = [random_row(found) for _ in range(rng.integers(0, 25))]
    shores = {scene: rng.uniform(-300, 300, (rng.integers(0, 5), 2)) for scene in "abc"}
    assert list(score(predictions, truth, shores).values()) == pytest.approx(twin(predictions, truth, shores))
