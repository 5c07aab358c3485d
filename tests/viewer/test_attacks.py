"""What others may try: each is refused, and the server lives on."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic, sleep

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import httpx
from starlette.testclient import TestClient

from tests.viewer.found_files import point_labels, write_scene
from xt.errors import ImageError, OptionError
from xt.images.array import ArrayImage
from xt.viewer.application import application
from xt.viewer.guard import Guard
from xt.viewer.labelled import read_labels
from xt.viewer.live import LiveAnswer
from xt.viewer.server import Server, hosts_of
from xt.viewer.viewer import Viewer

SECRET = "what nobody guesses"


def run(work):
    """What a coroutine gives, in a thread of its own: Playwright's loop runs in this one once a browser was open."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture
def scene(tmp_path):
    return str(write_scene(tmp_path / "scene.png"))


def client_of(viewer, *, let_in=True, **settings):
    app = application(viewer, secret=SECRET, **settings)
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    if let_in:
        assert client.get("/images", params={"secret": SECRET}).status_code == 200
    return client


PLACES = [
    "/",
    "/images",
    "/images/0",
    "/images/0/tiles/0/0/0",
    "/images/0/corrections",
    "/jobs/1",
    "/nothing",
]


@pytest.mark.parametrize("place", PLACES)
def test_without_the_secret_nothing_is_told(scene, place):
    client = client_of(Viewer([scene]), let_in=False)
    for given in (
        {},
        {"params": {"secret": "guessed"}},
        {"params": {"secret": ""}},
        {"params": {"secret": "ö"}},
        {"headers": {"cookie": f"{Guard(None, secret=SECRET).cookie}=guessed"}},
        {"headers": {"cookie": f"secret={SECRET}"}},
        {"headers": {"authorization": f"Bearer {SECRET}"}},
    ):
        response = client.get(place, **given)
        assert response.status_code == 403
        assert "scene" not in response.text
        assert not response.headers.get("set-cookie")
    assert client.post("/images/0/corrections", json={}).status_code == 403
    assert client.delete("/jobs/1").status_code == 403


def test_the_secret_becomes_a_cookie_that_scripts_cannot_read(scene):
    client = client_of(Viewer([scene]), let_in=False)
    response = client.get("/images/0?secret=what%20nobody%20guesses&a=1", follow_redirects=False)
    assert response.status_code == 303
    assert response.headers["location"] == "/images/0?a=1", "the secret does not stay in the address"
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/images/0").status_code == 200
    assert client_of(Viewer([scene])).cookies.keys() == client.cookies.keys()


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example"])
def test_the_secret_leads_to_no_other_host(scene, path):
    client = client_of(Viewer([scene]), let_in=False)
    response = client.get(f"http://127.0.0.1:8000{path}?secret={SECRET}", follow_redirects=False)
    location = response.headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "0.0.0.0", "[::2]",
     "127.0.0.1@evil.example", "evil.example#127.0.0.1", "[", "169.254.169.254"],
)  # fmt: skip
def test_a_foreign_host_is_refused_whoever_asks(scene, host):
    """As of a name that its owner leads to this machine's address (DNS rebinding)."""
    client = client_of(Viewer([scene]))
    response = client.get("/images", headers={"host": host})
    assert response.status_code == 400
    assert "scene" not in response.text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9999", "LOCALHOST", "[::1]:8000"])
def test_the_machine_s_own_names_are_not(scene, host):
    client = client_of(Viewer([scene]))
    assert client.get("/images", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "https://127.0.0.1.evil"]
)
def test_another_page_may_change_nothing(scene, origin):
    """Cookies go along from pages of other ports of this machine, too."""
    client = client_of(Viewer([scene]))
    change = {"revision": 0, "kind": "point", "class": "cell", "coordinates": [1, 1]}
    response = client.post("/images/0/corrections", json=change, headers={"origin": origin})
    assert response.status_code == 403
    own = {"origin": "http://127.0.0.1:8000"}
    assert client.post("/images/0/corrections", json=change, headers=own).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/images/..%2F..%2Fetc%2Fpasswd", "/images/%2e%2e/%2e%2e/etc/passwd", "/images/0/tiles/../../../etc/passwd",
        "/images/0/layers/..%2F..%2Fetc%2Fpasswd/0/0/0", "/images/0/layers/%00/0/0/0", "/images/-1",
        "/images/1", "/images/99999999999999999999999", "/images/0/tiles/-1/0/0", "/images/0/tiles/99/0/0",
        "/images/0/tiles/0/0/1", "/images/0/tiles/0/-1/0", "/images/0/tiles/0/0/99999999999999999999", "/../etc/passwd",
        "/images//etc/passwd", "/images/0/value?y=1e999&x=nan", "/images/0/corrections/objects/..%2F..%2Fx?revision=1",
    ],
)  # fmt: skip
def test_no_path_from_a_browser_reaches_the_disk(scene, path):
    client = client_of(Viewer([scene]))
    response = client.get(path)
    assert response.status_code in (404, 405, 422), response.text
    assert "root:" not in response.text
    assert client.get("/images/0").status_code == 200


@pytest.mark.parametrize(
    "look",
    ["bands=9", "bands=0,1", "bands=a", "low=nan", "high=inf,1,1", "gamma=0", "gamma=-1", "gamma=1e9",
     "colours=../../etc", "low=1", "colours=<script>", "bands=-1"],
)  # fmt: skip
def test_a_look_that_is_none_is_told(scene, look):
    client = client_of(Viewer([scene]))
    response = client.get(f"/images/0/tiles/0/0/0?{look}")
    assert response.status_code == 404, response.text
    assert response.headers["content-type"] == "application/json"


MARKUP = '<img src=x onerror=alert(1)><script>alert("1")</script>'


def test_script_in_names_stays_text(tmp_path):
    """In a file's name, a class's name and a property: JSON, with nosniff, and never markup."""
    image = write_scene(tmp_path / "<img src=x onerror=alert(1)>.png")
    table = point_labels(tmp_path, [(5.0, 6.0, MARKUP)])
    (tmp_path / "table.csv").write_text(f'image,points\n"{image.name}",labels.geojson\n')
    labels = read_labels(table)
    client = client_of(Viewer(labels.images, labels=labels))
    change = {"revision": 0, "kind": "point", "class": MARKUP[:99], "coordinates": [9, 9]}
    assert client.post("/images/0/corrections", json=change).status_code == 200
    value = "/images/0/value?y=5&x=6&reach=3"
    for path in ("/images", "/images/0", "/images/0/corrections", value, f"/images/0/layers/{MARKUP}"):
        response = client.get(path)
        assert response.headers["content-type"] == "application/json", path
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in response.headers["content-security-policy"]
        json.loads(response.text)
    assert client.get("/images").json()[0]["name"] == image.name
    assert client.get(value).json()["layers"]["labels"]["class"] == MARKUP


def test_nothing_is_loaded_from_elsewhere(scene):
    policy = client_of(Viewer([scene])).get("/images").headers["content-security-policy"]
    words = policy.replace(";", " ").split()
    hosts = [word for word in words if "." in word or ":" in word or word == "*"]
    assert set(hosts) <= {"data:", "blob:", "http://localhost:*", "http://127.0.0.1:*"}
    # Of these two only who may frame it, as a notebook does.
    framing = next(part for part in policy.split(";") if "frame-ancestors" in part)
    assert "http://localhost:*" not in policy.replace(framing, "")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"revision": "1"}', b'{"revision": true}', b"null", b"\xff\xfe", b'{"revision": 1e400}',
     b"[" * 100_000, b'{"revision": 0, "kind": {}, "class": [], "coordinates": {"a": 1}}',
     b'{"revision": 0, "kind": "polygon", "class": "a", "coordinates": [[[[[1]]]]]}', b" " * (9 * 2**20)],
)  # fmt: skip
def test_bodies_that_are_none_are_told(scene, body):
    client = client_of(Viewer([scene]))
    for method, path in (
        ("POST", "/images/0/corrections"),
        ("POST", "/images/0/predictions"),
        ("PUT", "/images/0/corrections/answer"),
    ):
        response = client.request(method, path, content=body)
        assert response.status_code == 404, response.text
        assert response.json()["error"]


class Slow(ArrayImage):
    """Counts how often it is read, and waits for it to be let on."""

    def __init__(self):
        super().__init__(np.zeros((4096, 4096, 3), np.uint8), name="slow")
        self.reads, self.go_on = 0, Event()

    def _read(self, *place):
        self.reads += 1
        assert self.go_on.wait(60)
        return super()._read(*place)


def served(viewer):
    app = application(viewer, secret=SECRET)
    return Server(app, SECRET)


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_very_many_requests_at_once(tmp_path, count):
    pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scene.png")

    async def ask(server):
        limits = httpx.Limits(max_connections=count)
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(
            base_url=base, limits=limits, timeout=120, follow_redirects=True
        ) as client:
            await client.get("/images", params={"secret": SECRET})
            paths = [f"/images/0/tiles/3/{n // 8 % 8}/{n % 8}" for n in range(count)]
            answers = await asyncio.gather(*(client.get(path) for path in paths))
            return answers, await client.get("/images/0")

    with served(Viewer([str(tmp_path / "scene.png")])) as server:
        answers, after = run(ask(server))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 64
    assert after.status_code == 200


def test_tiles_that_nobody_waits_for_are_not_drawn():
    image = Slow()

    async def ask(server):
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60, follow_redirects=True) as client:
            await client.get("/images", params={"secret": SECRET})
            wanted = [
                asyncio.create_task(client.get(f"/images/0/tiles/4/{n // 16}/{n % 16}")) for n in range(50)
            ]
            await asyncio.sleep(1)
            for task in wanted:
                task.cancel()
            await asyncio.gather(*wanted, return_exceptions=True)
            await asyncio.sleep(0.5)
            image.go_on.set()
            return await client.get("/images/0/tiles/4/0/0")

    with served(Viewer([image])) as server:
        assert run(ask(server)).status_code == 200
    assert image.reads < 20


def test_a_client_that_goes_away_in_a_prediction_stops_it(scene):
    viewer = Viewer([scene])
    viewer.jobs.patience = 0.3
    steps = []

    def predict(progress, show):
        for done in range(10_000):
            progress("decode", done, 10_000)
            steps.append(done)
            sleep(0.01)
        return LiveAnswer(sentence="", scores={}, layers=())

    client = client_of(viewer)
    job = viewer.jobs.start(0, (0, 0, 1, 1), predict)
    for _ in range(10):
        assert client.get(f"/jobs/{job.number}").json()["state"] in ("waiting", "running")
        sleep(0.1)
    until = monotonic() + 30
    while not job.is_over and monotonic() < until:
        sleep(0.05)
    assert client.get(f"/jobs/{job.number}").json()["state"] == "cancelled"
    assert len(steps) < 10_000


def test_a_prediction_is_stopped_by_its_number(scene):
    viewer = Viewer([scene])
    client = client_of(viewer)
    job = viewer.jobs.start(
        0,
        (0, 0, 1, 1),
        lambda progress, show: [(progress("decode", n, 9), sleep(0.01)) for n in range(10_000)],
    )
    client.delete(f"/jobs/{job.number}")
    until = monotonic() + 30
    while not job.is_over and monotonic() < until:
        sleep(0.05)
    assert job.state == "cancelled"
    assert client.delete("/jobs/77").status_code == 404


def test_a_tile_of_a_damaged_file_is_told_and_the_others_shown(tmp_path):
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, pixels, tile=(256, 256), compression="zlib", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[5], file.pages[0].databytecounts[5]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\0" * size
    path.write_bytes(content)
    client = client_of(Viewer([str(path)]))
    for _ in range(3):
        response = client.get("/images/0/tiles/2/1/1")
        assert response.status_code == 500
        assert "damaged" in response.json()["error"]
    assert client.get("/images/0/tiles/2/0/0").status_code == 200
    assert client.get("/images/0/tiles/0/0/0").status_code == 500, "all of it cannot be told either"


@pytest.mark.parametrize("content", [b"", b"not an image", b"II*\0\xff\xff\xff\xff"])
def test_a_file_that_is_no_image_is_told(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    (tmp_path / "b.tif").write_bytes(b"")
    client = client_of(Viewer([str(tmp_path / "a.tif"), str(write_scene(tmp_path / "scene.png"))]))
    assert client.get("/images").status_code == 200
    response = client.get("/images/0")
    assert response.status_code == 500
    assert response.json()["error"]
    assert client.get("/images/1").status_code == 200


def test_what_nobody_thought_of_is_one_sentence_too(scene, monkeypatch):
    viewer = Viewer([scene])
    client = client_of(viewer)

    def broken(*args):
        raise RuntimeError("/secret/path/of/the/library is broken")

    monkeypatch.setattr(viewer.image(0).pyramid, "read", broken)
    response = client.get("/images/0/tiles/1/0/0")
    assert response.status_code == 500
    assert "/secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert client.get("/images/0").status_code == 200


def test_a_server_listens_to_this_machine_only(scene):
    with served(Viewer([scene])) as server:
        assert server.host == "127.0.0.1"
        assert not server.is_open_to_others
        assert server.address == f"http://127.0.0.1:{server.port}/?secret=" + SECRET
        assert httpx.get(f"http://127.0.0.1:{server.port}/images").status_code == 403
        with pytest.raises(OptionError, match="the viewer cannot listen"):
            Server(application(Viewer([scene]), secret=SECRET), SECRET, port=server.port)
        with pytest.raises(OptionError, match="port is 0 to 65535"):
            Server(application(Viewer([scene]), secret=SECRET), SECRET, port=70_000)


def test_who_opens_it_to_others_wants_the_secret_all_the_same(scene):
    names = hosts_of("lab.example")
    client = client_of(Viewer([scene]), let_in=False, hosts=names)
    assert client.get("/images", headers={"host": "lab.example:80"}).status_code == 403
    assert client.get("/images", headers={"host": "other.example"}).status_code == 400


def test_damage_is_not_kept(scene, monkeypatch):
    """A file that could not be read for a moment, as over a network, is asked for again."""
    viewer = Viewer([scene])
    client = client_of(viewer)
    read = viewer.image(0).pyramid.read

    def broken(*args):
        raise ImageError("the network is down")

    monkeypatch.setattr(viewer.image(0).pyramid, "read", broken)
    assert client.get("/images/0/tiles/1/0/0").json()["error"] == "the network is down"
    monkeypatch.setattr(viewer.image(0).pyramid, "read", read)
    assert client.get("/images/0/tiles/1/0/0").status_code == 200


def test_many_who_want_one_tile_have_it_made_once():
    image = Slow()
    viewed = Viewer([image]).image(0)
    with ThreadPoolExecutor(16) as pool:
        tiles = [pool.submit(viewed.tile, 4, 0, 0) for _ in range(16)]
        sleep(0.2)
        image.go_on.set()
        contents = {tile.result().content for tile in tiles}
    assert len(contents) == 1
    assert image.reads == 1
