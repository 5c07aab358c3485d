"""`xt view` prints an address that works, ends when it is interrupted, and refuses in a sentence."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

from tests.viewer.found_files import write_scene
from xt.cli.main import main


@pytest.fixture
def waits_not(monkeypatch):
    monkeypatch.setattr("xt.viewer.server.Server.wait", lambda self: None)
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("no browser was asked for"))


def test_it_answers_until_it_is_interrupted(tmp_path):
    write_scene(tmp_path / "scene.png", 80, 90)
    command = [sys.executable, "-m", "xt.cli.main", "view", "scene.png", "--no-browser"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests themselves were begun in the background, interrupts are ignored, also by what they begin.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        first, second = running.stdout.readline(), running.stdout.readline()
        assert first.startswith("1 image at http://127.0.0.1:")
        assert second == "Ctrl-C ends it.\n"
        address = first.split()[-1]
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"xt view" in browser.open(address, timeout=60).read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.split("?")[0], timeout=60)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=60)
    assert (running.returncode, output, errors) == (0, "\n", "")


def test_a_folder_and_an_open_host_are_told(tmp_path, capsys, waits_not):
    for name in ("one.png", "two.png"):
        write_scene(tmp_path / name, 80, 90)
    assert main(["view", str(tmp_path), "--no-browser", "--host", "0.0.0.0"]) == 0
    told = capsys.readouterr().out
    address = re.match(r"2 images at (http://\S+)\n", told)[1]
    # By 0.0.0.0 nobody can be asked.
    assert urllib.parse.urlsplit(address).hostname not in ("0.0.0.0", "::")
    assert "Open to others: whoever reaches this machine" in told


def test_a_port_that_is_taken(tmp_path, capsys, waits_not):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        image = str(write_scene(tmp_path / "scene.png", 80, 90))
        assert main(["view", image, "--no-browser", "--port", str(port)]) == 2
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_no_port(tmp_path, capsys, waits_not, port):
    image = str(write_scene(tmp_path / "scene.png", 80, 90))
    assert main(["view", image, "--no-browser", "--port", port]) == 2
    assert "--port is 0 to 65535" in capsys.readouterr().err


def test_files_that_cannot_be_read(tmp_path, capsys, waits_not):
    assert main(["view", str(tmp_path / "none.tif"), "--no-browser"]) == 2
    assert "none.tif" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["view", str(tmp_path / "empty"), "--no-browser"]) == 2
    assert "empty" in capsys.readouterr().err
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and no more")
    assert main(["view", str(tmp_path / "broken.tif"), "--no-browser"]) == 2
    assert "broken.tif" in capsys.readouterr().err


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xt.viewer.view.find_spec", lambda name: None)
    assert main(["view", str(write_scene(tmp_path / "scene.png", 80, 90))]) == 2
    assert 'pip install "xt-vision[viewer]"' in capsys.readouterr().err
