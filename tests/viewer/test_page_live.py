"""A model at work on the page: what is in view is predicted, and a click tells what an answer leaned on."""

import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.prediction.dense_models import dense_model
from tests.viewer.browser import Opened
from tests.viewer.found_files import write_scene


def test_what_is_in_view_is_predicted_and_explained(browser, tmp_path):
    model = dense_model("points")
    model.save(tmp_path / "model.safetensors")
    write_scene(tmp_path / "scene.png")
    with xt.view(tmp_path / "scene.png", model=tmp_path / "model.safetensors") as view:
        opened = Opened(browser, view)
        opened.page.get_by_role("button", name="predict what is in view").click()
        opened.page.locator("[data-layer=live-points]").wait_for()
        opened.page.get_by_role("button", name="stop").wait_for(state="hidden")
        counts = view.viewer.image(0).layer("live-points").legend()["classes"]
        opened.until_texts(
            "[data-layer=live-points] .xt-class .xt-soft", [f"{one['count']:,}" for one in counts]
        )
        opened.wait()
        assert [layer["name"] for layer in opened.facts["layers"]] == ["live-points"]
        opened.page.get_by_text("a click shows what its answer leaned on").click()
        opened.page.mouse.click(*opened.to_screen(150, 200))
        opened.page.locator("[data-layer=leaning]").wait_for()
        opened.page.get_by_text("most on the region at").wait_for()
        opened.page.get_by_text("show the regions").click()
        opened.page.locator("[data-layer=grid]").wait_for()
        assert opened.errors == []
        assert opened.foreign == []
        opened.page.close()
