"""The pictures of the viewer in README.md and docs/viewer.md, taken of the demo's section in headless Chromium.

python docs/viewer_pictures.py
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

import xt

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "xt" / "demo" / "assets"
_MIDDLE, _ZOOM = (830, 1000), 3
_COLOURS = 256


def take(opened, name: str) -> None:
    """The page as it is, with few enough colours to be small."""
    opened.wait()
    opened.page.wait_for_timeout(600)
    picture = Image.open(io.BytesIO(opened.page.screenshot())).convert("RGB")
    few = picture.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(ROOT / "docs" / name, optimize=True)


def look(opened) -> None:
    """What the model found of the nuclei."""
    opened.go(*_MIDDLE, _ZOOM)
    opened.page.mouse.move(*opened.to_screen(700, 1000))
    opened.page.wait_for_timeout(500)
    take(opened, "viewer.png")


def compare(opened) -> None:
    """The section in grey, and under the swipe in colours."""
    opened.open_panel("Layers")
    opened.open_panel("Compare")
    opened.page.get_by_text("swipe", exact=True).click()
    opened.page.wait_for_function("document.querySelector('.xt-scene').xtScene.maps.length === 2")
    opened.open_panel("Look of the second")
    opened.page.get_by_label("colour map").last.click()
    opened.page.get_by_role("option", name="viridis").click()
    opened.go(*_MIDDLE, _ZOOM)
    take(opened, "viewer_compare.png")
    opened.page.get_by_text("one image").click()
    opened.open_panel("Compare")
    opened.open_panel("Layers")


def correct(opened) -> None:
    """Polygons of nuclei, one of them in hand."""
    opened.page.evaluate("document.activeElement?.blur()")
    opened.page.keyboard.press("v")
    opened.go(*_MIDDLE, _ZOOM + 1)
    opened.page.wait_for_function(
        "document.querySelector('.xt-scene').xtScene.maps[0].pencil.objects.getLayers().length > 0"
    )
    x, y = opened.page.evaluate(
        "(() => { const { pencil, map } = document.querySelector('.xt-scene').xtScene.maps[0];"
        " const middle = map.getSize().divideBy(2);"
        " const at = pencil.objects.getLayers().map((one) => map.latLngToContainerPoint(one.getBounds().getCenter()));"
        " at.sort((a, b) => a.distanceTo(middle) - b.distanceTo(middle));"
        " const box = map.getContainer().getBoundingClientRect(); return [at[0].x + box.left, at[0].y + box.top]; })()"
    )
    opened.page.mouse.click(x, y)
    opened.page.mouse.move(x + 90, y + 70)
    take(opened, "viewer_correct.png")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.viewer.browser import Opened, chromium

    with tempfile.TemporaryDirectory() as folder:
        for name in ("section.ome.tif", "nuclei.safetensors"):
            shutil.copy(ASSETS / name, folder)
        section, model = Path(folder) / "section.ome.tif", Path(folder) / "nuclei.safetensors"
        xt.predict(model, section, Path(folder) / "found", outlines=("nucleus",), least_area=30)
        with xt.view(Path(folder) / "found", model=model) as view, chromium() as browser:
            opened = Opened(browser, view, 1280, 760)
            look(opened)
            compare(opened)
            correct(opened)
            assert not opened.foreign
            assert not opened.errors


if __name__ == "__main__":
    main()
