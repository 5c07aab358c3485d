"""Layers on the page: each has its switch, what is drawn is what the library draws, and the legend filters it."""

import itertools
import json
import urllib.parse

import numpy as np
import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.viewer.browser import Opened
from tests.viewer.found_files import answer_model, found_folder, point_labels, write_scene
from xt.viewer.layers import EVERYTHING, Filters, Window

CLOSE = 3


@pytest.fixture(scope="module")
def points(browser, tmp_path_factory):
    """What was found of a scene, with labels and where they differ."""
    folder = tmp_path_factory.mktemp("points")
    found = found_folder(folder, "points", least_score=0.0)
    table = point_labels(folder, [(60.0, 80.0, "ship"), (120.0, 200.0, "ice"), (250.0, 300.0, "ship")])
    with xt.view(found, labels=table) as view:
        opened = Opened(browser, view)
        opened.viewer = view.viewer
        yield opened
        assert opened.errors == []
        opened.page.close()


def switch(opened: Opened, layer: str) -> None:
    opened.page.locator(f"[data-layer={layer}] .q-toggle").click()


def layers_of(opened: Opened) -> list[str]:
    script = "[...document.querySelector('.xt-scene').xtScene.maps[0].tiles.shown.keys()]"
    return [key.removeprefix("layer ") for key in opened.page.evaluate(script) if key != "image"]


def until_layers(opened: Opened, wanted: list[str]) -> None:
    opened.page.wait_for_function(
        "wanted => [...document.querySelector('.xt-scene').xtScene.maps[0].tiles.shown.keys()].slice(1).join()"
        " === wanted.map(name => 'layer ' + name).join()",
        arg=wanted,
    )
    opened.wait()


def test_each_layer_has_its_switch(points):
    points.go(150, 205, points.facts["deepest"])
    names = [legend["name"] for legend in points.facts["layers"]]
    assert names == ["points", "labels", "difference"]
    assert layers_of(points) == ["points"]
    switch(points, "points")
    until_layers(points, [])
    bare = points.screen()
    for name in names:
        switch(points, name)
        until_layers(points, [name])
        assert (points.screen() != bare).any()
        switch(points, name)
        until_layers(points, [])
    np.testing.assert_array_equal(points.screen(), bare)
    switch(points, "points")
    until_layers(points, ["points"])


def test_objects_are_drawn_where_the_library_draws_them(points):
    points.go(150, 205, points.facts["deepest"])
    image = points.viewer.image(0)
    layer = image.layer("labels").draw(Window(0, 0, 1, 300), EVERYTHING)
    switch(points, "points")
    until_layers(points, [])
    bare = points.pixels(0, 100, 300, 200).astype(float)
    switch(points, "labels")
    until_layers(points, ["labels"])
    shown = points.pixels(0, 100, 300, 200)
    over = layer[:, 100:300]
    share = over[..., 3:] / 255
    np.testing.assert_allclose(shown, share * over[..., :3] + (1 - share) * bare, atol=2)
    switch(points, "labels")
    switch(points, "points")
    until_layers(points, ["points"])


def slide(opened: Opened, field: str, share: float) -> Filters:
    """Move a threshold of the points to a part of its length: all filters of their layer as it is asked for then."""
    slider = opened.page.locator(f"[data-layer=points] [data-threshold={field}]")
    slider.scroll_into_view_if_needed()
    edges = slider.bounding_box()
    opened.page.mouse.click(edges["x"] + share * edges["width"], edges["y"] + edges["height"] / 2)
    return until_asked_for(opened, field)


def until_asked_for(opened: Opened, word: str) -> Filters:
    address = (
        "document.querySelector('.xt-scene').xtScene.maps[0].tiles.shown.get('layer points').options.address"
    )
    opened.page.wait_for_function(f"{address}.includes('{word}=')")
    opened.wait()
    words = urllib.parse.parse_qsl(opened.page.evaluate(address).split("?")[1], keep_blank_values=True)
    return Filters.of(dict(words))


def test_the_legend_filters_by_class_score_and_nearness_and_counts(points):
    layer = points.viewer.image(0).layer("points")

    def counted(filters: Filters) -> list[int]:
        """How many of each class are told once it is as many as the layer has."""
        counts = layer.counts(filters)
        points.until_texts("[data-layer=points] .xt-class .xt-soft", [f"{count:,}" for count in counts])
        return counts

    every = counted(EVERYTHING)
    pictures = [points.screen()]
    merged = slide(points, "merge", 0.6)
    assert 30 < merged.merge < 42
    assert sum(counted(merged)) < sum(every)
    pictures.append(points.screen())
    scored = slide(points, "score", 0.7)
    assert (scored.merge, scored.least_score > 0) == (merged.merge, True)
    counts = counted(scored)
    assert sum(counts) < sum(every)
    pictures.append(points.screen())
    shown = next(number for number, count in enumerate(counts) if count)
    points.page.locator("[data-layer=points] .xt-class").nth(shown).click()
    assert shown not in until_asked_for(points, "classes").classes
    pictures.append(points.screen())
    for one, other in itertools.pairwise(pictures):
        assert (one != other).any()


def test_what_a_layer_says_is_told_under_the_cursor(points):
    points.go(150, 205, points.facts["deepest"])
    points.point_at(60, 80)
    assert "labels: ship" in points.text(".xt-readout .layers")


@pytest.fixture
def answers(tmp_path):
    """Answers about four images, of which some are in doubt, and a table that disagrees about one."""
    (tmp_path / "images").mkdir()
    for number in range(4):
        write_scene(tmp_path / "images" / f"scene_{number}.png", 120 + 30 * number, 150)
    xt.predict(answer_model(), tmp_path / "images", tmp_path / "found", device="cpu")
    record = tmp_path / "found" / "predictions.json"
    said = json.loads(record.read_text())
    entries = sorted(said["images"].values(), key=lambda entry: entry["row"]["image"])
    for entry, (answer, score, doubt) in zip(
        entries,
        [("tumour", 0.9, 0), ("healthy", 0.6, 1), ("tumour", 0.55, 1), ("healthy", 0.99, 0)],
        strict=True,
    ):
        entry["row"].update(predicted=answer, probability=score, in_doubt=doubt)
    record.write_text(json.dumps(said))
    rows = [
        f"images/scene_{number}.png,{label}"
        for number, label in enumerate(["tumour", "tumour", "tumour", "healthy"])
    ]
    (tmp_path / "labels.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_the_list_is_filtered_sorted_and_gone_through(browser, answers):
    with xt.view(answers / "found", labels=answers / "labels.csv") as view:
        opened = Opened(browser, view)

        def until(*numbers: int) -> None:
            opened.until_texts(".xt-row-name", [f"scene_{number}.png" for number in numbers])

        def select(place: int, option: str) -> None:
            opened.page.locator(".xt-filters .q-select").nth(place).click()
            opened.page.get_by_role("option", name=option, exact=True).click()
            # While a list of options closes, the next click would go to it.
            opened.page.wait_for_function("document.querySelector('.q-menu') === null")

        until(0, 1, 2, 3)
        select(0, "in doubt")
        until(1, 2)
        select(0, "not as labelled")
        until(1)
        select(0, "all")
        select(1, "least score")
        until(2, 1, 0, 3)
        opened.page.get_by_placeholder("find a name").fill("tumour")
        until(2, 1, 0)
        opened.page.get_by_placeholder("find a name").fill("")
        until(2, 1, 0, 3)
        for name in ("scene_2.png", "scene_1.png", "scene_2.png"):
            opened.press("n")
            opened.until_title(name)
            opened.page.wait_for_function(
                "name => document.querySelector('.xt-scene').xtScene.maps[0].facts.name === name", arg=name
            )
            opened.wait()
        opened.open_panel("Correct")
        opened.page.get_by_role("button", name="accept").click()
        opened.page.locator(".xt-done").wait_for()
        opened.press("n")
        opened.until_title("scene_1.png")
        assert "scene_2.png,tumour" in (answers / "corrected" / "corrected.csv").read_text()
        assert opened.errors == []
        opened.page.close()
