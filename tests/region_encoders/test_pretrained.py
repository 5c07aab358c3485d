"""Pretrained weights: those on this machine are loaded without a network; what cannot be fetched is said at once."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from xt.config.parser import config_from_dict, config_to_dict, load_config
from xt.errors import ConfigError
from xt.region_encoders import hub, pretrained
from xt.region_encoders.hub import CALLED_ALIKE, refuse_what_cannot_be_fetched
from xt.region_encoders.timm import TimmEncoder

NAME = "convnext_atto"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with timm's own form of the model's weights."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("weights")
    save_file(timm.create_model(NAME).state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    return tmp_path / "hub"


def put_into(cache: Path, file: Path) -> Path:
    """As the hub lays a downloaded file down."""
    repository = cache / "models--timm--convnext_atto.d2_in1k"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "model.safetensors").write_bytes(file.read_bytes())
    return snapshot / "model.safetensors"


def encoder(given: bool | str) -> TimmEncoder:
    return TimmEncoder(NAME, 8, region_size=64, pretrained=given)


def has_them(made: TimmEncoder, weights: Path) -> bool:
    stored = timm.models.load_state_dict(str(weights / "model.safetensors"))
    return torch.equal(made.network.state_dict()["stem_0.weight"], stored["stem.0.weight"])


def test_weights_in_the_cache_are_loaded_without_asking_a_network(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(hub, "probe", forbidden)
    put_into(cache, weights / "model.safetensors")
    assert has_them(encoder(True), weights)
    assert not has_them(encoder(False), weights)


@pytest.mark.parametrize("named", ["folder", "file", "another name"])
def test_weights_of_a_folder_or_file(cache: Path, weights: Path, tmp_path: Path, named: str) -> None:
    given = weights if named != "file" else weights / "model.safetensors"
    if named == "another name":
        given = tmp_path / "mine"
        given.mkdir()
        (given / "atto.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    assert has_them(encoder(str(given)), weights)


def test_a_configuration_may_name_a_folder(tmp_path: Path) -> None:
    for given, expected in (("false", False), ("true", True), ("weights/atto", "weights/atto")):
        config = load_config("classification", [f"--model.pretrained={given}"])
        assert config.model.pretrained == expected
        assert config_from_dict(config_to_dict(config)) == config


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            None,
            r"model\.pretrained '.*none': expected true, false, or a file or folder of weights; there is none",
        ),
        ([], r"expected one file of weights \(\.safetensors, .*\), found none; name the file"),
        (["a.pth", "b.pth"], r"found a\.pth, b\.pth; name the file"),
    ],
)
def test_folders_without_weights(tmp_path: Path, files: list[str] | None, message: str) -> None:
    folder = tmp_path / "none"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    with pytest.raises(ConfigError, match=message):
        encoder(str(folder))


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0{}"])
def test_damaged_weights_are_named(cache: Path, tmp_path: Path, content: bytes) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    there = put_into(cache, damaged)
    with pytest.raises(ConfigError, match=rf"{there} holds no weights of convnext_atto that can be loaded"):
        encoder(True)


def test_weights_of_another_model_are_named(cache: Path, tmp_path: Path) -> None:
    save_file({"one": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ConfigError, match=r"other\.safetensors holds no weights of convnext_atto .* another model's"
    ):
        encoder(str(tmp_path / "other.safetensors"))


def test_what_cannot_be_reached_is_said_with_what_to_do(cache: Path) -> None:
    message = (
        r"weights of convnext_atto are not on this machine, and 127\.0\.0\.1:9 cannot be reached \(.*refused\): "
        r"connect it to a network once; or copy the hub's cache folder .* HF_HUB_CACHE \(here: .*hub\); or give a file "
        r"or folder of them, --model\.pretrained=FOLDER; or start without them, --model\.pretrained=false"
    )
    with pytest.raises(ConfigError, match=message):
        encoder(True)


def test_offline_by_wish(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "probe", lambda url: pytest.fail("a network was asked"))
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set, so that they are not fetched"):
        encoder(True)


def test_a_host_that_keeps_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = hub.probe(f"http://127.0.0.1:{port}")
    assert said is not None
    assert "within 0.2 s" in said or "timed out" in said


def test_a_search_for_an_address_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(hub, "_ask", lambda url, seconds: done.wait(60) and None)
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.1")
    started = time.monotonic()
    said = hub.probe("https://hub.invalid")
    assert time.monotonic() - started < 30
    done.set()
    assert said == "hub.invalid did not answer within 0.1 s (HF_HUB_ETAG_TIMEOUT=30 waits longer)"


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A host that answers, if only to refuse."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "20")
    with http.server.HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_host_that_answers_is_there(refusing: str) -> None:
    assert hub.probe(refusing) is None


def test_a_model_without_published_weights_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "probe", lambda url: pytest.fail("a network was asked"))
    without = next(name for name in timm.list_models() if not timm.models.is_model_pretrained(name))
    assert pretrained.cached_file(without) is None
    assert pretrained.unreachable(without) is None


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("convnext_tiny.in12k_ft_in1k", True),
        ("swinv2_large_window12to16_192to256.ms_in22k_ft_in1k", True),
        ("convnext_atto.d2_in1k", False),  # in the cache
        ("convnext_atto", False),  # which of its weights, timm knows
        ("resnet50.a1_in1k", False),
    ],
)
def test_before_timm_is_loaded_only_what_is_sure_is_refused(
    cache: Path, weights: Path, name: str, asked: bool
) -> None:
    put_into(cache, weights / "model.safetensors")
    if not asked:
        return refuse_what_cannot_be_fetched(name)
    with pytest.raises(
        ConfigError, match=rf"weights of {name} are not on this machine, .* cannot be reached"
    ):
        refuse_what_cannot_be_fetched(name)
    return None


def test_timm_keeps_the_weights_of_the_recipes_encoders_where_they_are_looked_for() -> None:
    from xt.config.files import read_with_base
    from xt.recipes import recipes

    ours = {read_with_base(recipe)["model"]["encoder"] for recipe in recipes().values()}
    assert all(name.startswith(CALLED_ALIKE) and "." in name for name in ours)
    for name in timm.list_pretrained():
        if name.startswith(CALLED_ALIKE):
            known = timm.get_pretrained_cfg(name)
            assert (known.hf_hub_id, known.hf_hub_filename) == (f"timm/{name}", None)


def test_a_command_line_refuses_without_loading_pytorch(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("image,label\na.tif,one\nb.tif,two\n")
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9", "no_proxy": "127.0.0.1",
        "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    for arguments, said in (
        (["train", "classification", "--data.table", "slides.csv"], "127.0.0.1:9 cannot be reached"),
        (["compare", "segmentation", "--data.table", "slides.csv"], "127.0.0.1:9 cannot be reached"),
        (["train", "inaturalist/swin_t_hyper_512_256", "--data.inaturalist", "."], "cannot be reached"),
        (["train", "classification"], "nothing says where the images are: --data.table slides.csv"),
        (["train", "slides.csv"], "this one fits:"),
        (["train", "classification", "--optim.lrr", "1"], "did you mean 'optim.lr'"),
    ):
        code = (
            f"import sys; from xt.cli.main import main; status = main({arguments!r}); "
            "print(status, sorted({'torch', 'timm', 'lightning'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert said in done.stderr
        assert (arguments, done.stdout) == (arguments, "2 []\n")
