"""The routes: what a browser asks for is what the library says."""

import io

import numpy as np
import pytest
from PIL import Image

from xt.images import open_image

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

from starlette.testclient import TestClient

from xt.viewer.application import application
from xt.viewer.view import viewer_of
from xt.viewer.viewer import Viewer

SECRET = "what nobody guesses"


def client_of(*sources, **settings):
    app = application(Viewer(list(sources)), secret=SECRET, **settings)
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    assert client.get("/images", params={"secret": SECRET}).status_code == 200
    return client


def pixels_of(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


@pytest.fixture
def colours():
    return np.random.default_rng(0).integers(0, 255, (300, 700, 3), dtype=np.uint8)


def test_tiles_are_the_image(colours):
    client = client_of(colours.astype(np.uint16) * 256)
    facts = client.get("/images/0").json()
    assert (facts["height"], facts["width"], facts["deepest"]) == (300, 700, 2)
    look = {"low": "0,0,0", "high": "65280,65280,65280"}
    tile = pixels_of(client.get("/images/0/tiles/2/0/1", params=look))
    np.testing.assert_array_equal(tile, colours[:256, 256:512])
    edge = pixels_of(client.get("/images/0/tiles/2/1/2", params=look))
    np.testing.assert_array_equal(edge[:44, :188, :3], colours[256:, 512:])
    assert edge[:44, :188, 3].min() == 255
    assert not edge[44:, :, 3].any()
    assert not edge[:, 188:, 3].any()


def test_a_value_is_what_read_gives(tmp_path):
    values = np.linspace(-3, 3, 60 * 50 * 2).reshape(60, 50, 2).astype(np.float32)
    values[7, 9] = np.nan
    client = client_of(values)
    answer = client.get("/images/0/value", params={"y": 5.7, "x": 40.2}).json()
    assert (answer["y"], answer["x"]) == (5, 40)
    assert answer["values"] == [float(value) for value in open_image(values).read(5, 40, 1, 1)[0, 0]]
    assert client.get("/images/0/value", params={"y": 7, "x": 9}).json()["values"] == [None, None]
    assert client.get("/images/0/value", params={"y": 60, "x": 9}).status_code == 404


def test_a_browser_keeps_tiles_of_this_image_only(colours):
    client = client_of(colours, colours)
    first, second = (client.get(f"/images/{number}").json()["made"] for number in (0, 1))
    assert first != second
    kept = client.get("/images/0/tiles/2/0/1", params={"made": first})
    assert kept.headers["cache-control"] == "private, max-age=86400, immutable"
    assert client.get("/images/0/tiles/2/0/1").headers["cache-control"] == "no-cache"
    none = client.get("/images/0/tiles/9/0/1", params={"made": first})
    assert "max-age" not in none.headers.get("cache-control", "")


def test_arrays_are_viewed_by_their_names(colours):
    viewer = viewer_of({"left": colours, "right": colours[:, :100]})
    assert [entry.name for entry in viewer.entries] == ["left", "right"]
    assert viewer.image(1).image.shape == (300, 100)
