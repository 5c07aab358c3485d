"""A browser without a window for the tests of the page, and what they ask of it."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def chromium() -> Iterator:
    """Debian's Chromium through Playwright's own interface."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """The page of a viewer, open in the browser.

    Attributes:
        page: Playwright's.
        foreign: what the page asked of other servers, which is not let through.
        errors: what its scripts complained about.
    """

    def __init__(self, browser, view, width: int = 1400, height: int = 860) -> None:
        self.foreign, self.errors = [], []
        self.page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
        self.page.set_default_timeout(60_000)
        own = view.address.split("?")[0]
        self.page.route(lambda url: not url.startswith((own, "data:", "blob:")), self._abort)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.add_init_script(NOTIFIED)
        self.page.goto(view.address)
        self.wait()

    def _abort(self, route) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def wait(self) -> None:
        """Until all tiles in view are there."""
        self.page.wait_for_function(SETTLED, polling=50)

    def map(self, side: int = 0) -> str:
        """Leaflet's map in JavaScript."""
        return f"document.querySelector('.xt-scene').xtScene.maps[{side}].map"

    def go(self, y: float, x: float, zoom: int) -> None:
        """The middle of the view and its zoom."""
        self.page.evaluate(f"{self.map()}.setView([{y}, {x}], {zoom}, {{animate: false}})")
        self.wait()

    def to_screen(self, y: float, x: float, side: int = 0) -> tuple[float, float]:
        """Where on the page (x, y) a place of the image is."""
        script = (
            f"(() => {{ const map = {self.map(side)}, box = map.getContainer().getBoundingClientRect(), "
            f"at = map.layerPointToContainerPoint(map.project([{y}, {x}]).subtract(map.getPixelOrigin())); "
            "return [box.left + at.x, box.top + at.y]; })()"
        )
        across, down = self.page.evaluate(script)
        return across, down

    def pixels(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) of the screen where a window of level 0 is shown, which has to be in view."""
        left, top = self.to_screen(y, x)
        right, bottom = self.to_screen(y + height, x + width)
        clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB"))

    def choose(self, name: str) -> None:
        """An image of the list."""
        self.page.locator(".xt-row", has_text=name).click()
        self.page.wait_for_function(
            "name => document.querySelector('.xt-scene').xtScene.maps[0]?.facts.name === name", arg=name
        )
        self.wait()

    def until_title(self, name: str) -> None:
        """The text over the map is this."""
        self.page.wait_for_function(
            "name => document.querySelector('.xt-title').textContent === name", arg=name
        )

    def until_notified(self, text: str) -> None:
        """A notification that has this in it was shown, by now or since the page was opened."""
        self.page.wait_for_function("text => window.notified.some((said) => said.includes(text))", arg=text)

    def until_texts(self, selector: str, wanted: list[str]) -> None:
        """The texts of all that is there are these."""
        self.page.wait_for_function(
            "([selector, wanted]) => wanted ==="
            " JSON.stringify([...document.querySelectorAll(selector)].map((one) => one.textContent.trim()))",
            arg=[selector, json.dumps(wanted, ensure_ascii=False, separators=(",", ":"))],
        )

    def press(self, key: str) -> None:
        """With no field in the focus."""
        self.page.evaluate("document.activeElement?.blur()")
        self.page.keyboard.press(key)

    def take(self, tool: str) -> None:
        """A tool of the pencil, by its key, and until what can be corrected is drawn."""
        self.press({"edit": "v", "point": "p", "box": "b", "polygon": "g"}[tool])
        self.page.wait_for_function(
            "tool => { const { pencil } = document.querySelector('.xt-scene').xtScene.maps[0];"
            " return pencil.tool === tool && pencil.ready; }",
            arg=tool,
        )

    @property
    def facts(self) -> dict:
        return self.page.evaluate("document.querySelector('.xt-scene').xtScene.maps[0].facts")

    def point_at(self, y: float, x: float) -> str:
        """The values that are told of the middle of a pixel under the mouse."""
        self.page.mouse.move(*self.to_screen(y + 0.5, x + 0.5))
        self.page.wait_for_function(
            "place => document.querySelector('.xt-readout .place').textContent === place "
            "&& document.querySelector('.xt-readout .values').textContent !== ''",
            arg=f"y {y}  x {x}",
        )
        # What was said of the place before stays until the answer is there.
        self.page.wait_for_function("document.querySelector('.xt-scene').xtScene.maps[0].readout.told")
        return self.text(".xt-readout .values")

    def open_panel(self, title: str) -> None:
        self.page.locator(".xt-panel .q-item", has_text=title).first.click()

    def screen(self) -> np.ndarray:
        """The map and all on it."""
        return np.asarray(Image.open(io.BytesIO(self.page.locator(".xt-sides").screenshot())).convert("RGB"))

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


SETTLED = """() => {
  const scene = document.querySelector('.xt-scene')?.xtScene;
  if (!scene || !scene.maps.length) return false;
  // Leaflet's own word for it, isLoading, is now and then left true when all is there.
  const there = (layer) => Object.values(layer._tiles).every(({ loaded }) => loaded);
  return scene.maps.every(({ tiles }) => [...tiles.shown.values()].every(there))
    && document.querySelectorAll('.leaflet-tile').length > 0
    && [...document.querySelectorAll('.leaflet-tile-loaded')].every((tile) => getComputedStyle(tile).opacity === '1');
}"""


# They go after a few seconds, which a slow machine may need to look for one.
NOTIFIED = """
window.notified = [];
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) {
      const found = node.matches?.('.q-notification') ? [node] : node.querySelectorAll?.('.q-notification') ?? [];
      for (const one of found) window.notified.push(one.textContent);
    }
  }
}).observe(document, { childList: true, subtree: true });"""
