"""Names of files and classes are text on the page, whatever they look like."""

import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.viewer.browser import Opened
from tests.viewer.found_files import point_labels, write_scene

ATTACKS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "{{constructor.constructor('alert(1)')()}}",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
]


def test_a_name_and_a_class_are_text(browser, tmp_path):
    names = [f"{attack.replace('/', '_')}.png" for attack in ATTACKS]
    write_scene(tmp_path / "scene.png")
    for name in names:
        write_scene(tmp_path / name, 80, 90)
    places = [(20.0 + 50 * number, 80.0, attack) for number, attack in enumerate(ATTACKS)]
    labels = point_labels(tmp_path, places)
    with xt.view([str(tmp_path / name) for name in ("scene.png", *names)], labels=labels) as view:
        opened = Opened(browser, view)
        alerts = []
        opened.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        opened.go(150, 205, opened.facts["deepest"])
        opened.page.locator("[data-layer=labels] .q-toggle").click()
        opened.until_texts("[data-layer=labels] .xt-class-name", sorted(ATTACKS))
        opened.point_at(20, 80)
        assert ATTACKS[0] in opened.text(".xt-readout .layers")
        opened.take("edit")
        opened.page.mouse.click(*opened.to_screen(20, 80))
        opened.page.get_by_text(f"point {ATTACKS[0]}").wait_for()
        opened.press("Escape")
        for name in names:
            opened.choose(name)
            opened.until_title(name)
        opened.open_panel("Compare")
        opened.page.get_by_text("side by side").click()
        opened.page.get_by_label("with", exact=True).click()
        opened.until_texts("[role=option]", ["scene.png", *names])
        opened.page.keyboard.press("Escape")
        assert opened.page.locator("img[src=x]").count() == 0
        assert alerts == opened.errors == opened.foreign == []
        opened.page.close()
