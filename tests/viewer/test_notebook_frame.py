"""The frame of a notebook: whatever name of this machine the notebook is asked by, the page in it gets its tiles."""

import http.server
import threading

import numpy as np
import pytest

import xt
from tests.viewer.browser import SETTLED


@pytest.mark.parametrize("name", ["localhost", pytest.param("127.0.0.1", marks=pytest.mark.slow)])
def test_a_notebook_shows_the_page_in_a_frame(browser, name: str) -> None:
    with xt.view(np.full((3, 300, 400), 128, np.uint8)) as view:
        notebook = f"<!doctype html><body>{view._repr_html_()}</body>".encode()

        class Notebook(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(notebook)

            def log_message(self, *words: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notebook) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page = browser.new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://{name}:{server.server_port}/")
            frame = page.frame_locator("iframe[title='xt view']")
            frame.locator(".leaflet-tile-loaded").first.wait_for(timeout=60_000)
            inside = next(one for one in page.frames if one.parent_frame is not None)
            inside.wait_for_function(SETTLED)
            assert f"//{name}:" in inside.url
            # Two, one of them taken back, could end in an empty frame.
            assert all(f"//{name}:" in url for url in asked)
            page.close()
            server.shutdown()
