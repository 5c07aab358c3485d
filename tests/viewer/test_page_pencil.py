"""Corrections in the browser: what is drawn, moved, deleted and undone is in the file, and others are told."""

import json

import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.viewer.browser import Opened
from tests.viewer.found_files import point_labels, write_scene


def features_in(folder) -> list[dict]:
    return json.loads((folder / "corrected" / "scene.geojson").read_text())["features"]


def places_in(folder) -> list[list[float]]:
    """(y, x), in order."""
    return sorted(feature["geometry"]["coordinates"][::-1] for feature in features_in(folder))


def until_revision(opened: Opened, revision: int) -> None:
    opened.page.wait_for_function(
        "wanted => { const { pencil } = document.querySelector('.xt-scene').xtScene.maps[0];"
        " return pencil.ready && pencil.seen === wanted; }",
        arg=revision,
    )
    opened.wait()


def click_at(opened: Opened, y: float, x: float) -> None:
    opened.page.mouse.click(*opened.to_screen(y, x))


def drag(opened: Opened, start: tuple[float, float], end: tuple[float, float]) -> None:
    opened.page.mouse.move(*opened.to_screen(*start))
    opened.page.mouse.down()
    opened.page.mouse.move(*opened.to_screen(*((a + b) / 2 for a, b in zip(start, end, strict=True))))
    opened.page.mouse.move(*opened.to_screen(*end))
    opened.page.mouse.up()


@pytest.fixture
def labelled(tmp_path):
    write_scene(tmp_path / "scene.png")
    return point_labels(tmp_path, [(60.0, 80.0, "ship"), (120.0, 200.0, "ice")])


def test_points_are_added_moved_deleted_and_undone(browser, labelled, tmp_path):
    with xt.view(tmp_path / "scene.png", labels=labelled) as view:
        opened = Opened(browser, view)
        opened.go(150, 205, opened.facts["deepest"])
        opened.take("edit")
        until_revision(opened, 0)
        drag(opened, (60, 80), (100, 90))
        until_revision(opened, 1)
        assert places_in(tmp_path) == [[100, 90], [120, 200]]
        # A tool is in hand as soon as its key is pressed.
        opened.press("p")
        click_at(opened, 200, 300)
        until_revision(opened, 2)
        assert [200, 300] in places_in(tmp_path)
        opened.take("edit")
        assert opened.page.locator("[data-tool][aria-pressed=true]").get_attribute("data-tool") == "edit"
        click_at(opened, 120, 200)
        opened.page.get_by_text("point ice").wait_for()
        opened.press("Delete")
        until_revision(opened, 3)
        assert places_in(tmp_path) == [[100, 90], [200, 300]]
        opened.press("Control+z")
        until_revision(opened, 4)
        assert places_in(tmp_path) == [[100, 90], [120, 200], [200, 300]]
        click_at(opened, 100, 90)
        opened.page.get_by_text("point ship").wait_for()
        opened.page.get_by_label("class of what is drawn").fill("berg")
        opened.page.keyboard.press("Enter")
        until_revision(opened, 5)
        changed = next(one for one in features_in(tmp_path) if one["geometry"]["coordinates"] == [90, 100])
        assert changed["properties"]["classification"]["name"] == "berg"
        # What one draws quickly is not taken for someone else's.
        opened.take("point")
        for x in (60, 100, 140):
            click_at(opened, 50, x)
        until_revision(opened, 8)
        assert places_in(tmp_path)[:3] == [[50, 60], [50, 100], [50, 140]]
        assert opened.page.evaluate("window.notified") == []
        opened.press("Escape")
        click_at(opened, 80, 80)
        opened.page.get_by_role("button", name="choose and move (V)").click()
        opened.page.wait_for_function("document.querySelector('[data-tool=edit]').ariaPressed === 'true'")
        assert len(places_in(tmp_path)) == 6
        assert opened.errors == []
        assert opened.foreign == []
        opened.page.close()


@pytest.mark.parametrize("kind", [pytest.param("box", marks=pytest.mark.slow), "polygon"])
def test_boxes_and_polygons_are_drawn_and_their_corners_moved(browser, tmp_path, kind):
    write_scene(tmp_path / "scene.png")
    with xt.view(tmp_path / "scene.png") as view:
        opened = Opened(browser, view)
        opened.go(150, 205, opened.facts["deepest"])
        opened.take(kind)
        if kind == "box":
            drag(opened, (50, 60), (110, 140))
        else:
            for place in ((50, 60), (50, 140), (110, 140)):
                click_at(opened, *place)
            click_at(opened, 50, 60)
        until_revision(opened, 1)
        corners = {tuple(corner) for corner in features_in(tmp_path)[0]["geometry"]["coordinates"][0]}
        assert {(60, 50), (140, 50), (140, 110)} <= corners
        opened.take("edit")
        click_at(opened, 60, 135)
        opened.page.locator(".xt-handle").first.wait_for()
        drag(opened, (110, 140), (130, 160))
        until_revision(opened, 2)
        corners = {tuple(corner) for corner in features_in(tmp_path)[0]["geometry"]["coordinates"][0]}
        assert {(60, 50), (160, 130)} <= corners
        opened.page.close()


def test_the_second_of_two_people_is_told_and_nothing_is_lost(browser, labelled, tmp_path):
    with xt.view(tmp_path / "scene.png", labels=labelled) as view:
        first, second = Opened(browser, view), Opened(browser, view)
        for opened in (first, second):
            opened.go(150, 205, opened.facts["deepest"])
            opened.take("point")
        click_at(first, 200, 100)
        until_revision(first, 1)
        click_at(second, 220, 120)
        for opened in (first, second):
            opened.until_notified("someone else has corrected")
        until_revision(first, 2)
        until_revision(second, 2)
        assert places_in(tmp_path) == [[60, 80], [120, 200], [200, 100], [220, 120]]
        first.page.close()
        second.page.close()
