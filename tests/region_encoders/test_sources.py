"""Names of the hub and of folders: networks and weights as timm has them, refusals in one sentence, what is saved."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

import xt
from xt.errors import ConfigError, DataWarning
from xt.region_encoders import hub
from xt.region_encoders.cards import CARDS
from xt.region_encoders.hub import refuse_what_cannot_be_fetched
from xt.region_encoders.timm import TimmEncoder

# As small as can be, of a family each: with registers, with channels last, of convolutions.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "vit_small_patch16_224",
        {"embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 2, "init_values": 0.1},
    ),
    "swin": (
        "swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    ),
    "convnext": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}),
}  # fmt: skip
OWNER = "someone/small-vit"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def folder_of(kind: str, place: Path) -> tuple[Path, Any]:
    """A folder as timm pushes it to the hub, and the model in it."""
    torch.manual_seed(3)
    name, options = MODELS[kind]
    model = timm.create_model(name, **options).eval()
    save_for_hf(model, place, model_args=options, safe_serialization=True)
    return place, model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    return tmp_path / "hub"


def in_cache(cache: Path, repository: str = OWNER) -> Path:
    """The folder of a repository's newest revision, as the hub lays it down."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(REVISION)
    return place / "snapshots" / REVISION


def same_as_timms(encoder: TimmEncoder, model: Any, size: int = 224) -> None:
    """Logits: what timm's own classifier says of what is read out equals what the whole model says."""
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(encoder.scaling(pixels))
        if encoder.readout == "class":
            ours = model.head(encoder.features(pixels)[:, 0])
        else:
            cells = encoder.features(pixels)
            last = encoder.feature_maps(pixels)[-1]
            torch.testing.assert_close(cells.transpose(1, 2).unflatten(2, last.shape[2:]), last)
            last = last.permute(0, 2, 3, 1) if getattr(model, "output_fmt", "NCHW") == "NHWC" else last
            ours = model.forward_head(last)
    torch.testing.assert_close(ours, logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_gives_timms_own_logits(kind: str, tmp_path: Path) -> None:
    folder, model = folder_of(kind, tmp_path / "model")
    readout = "class" if kind == "vit" else None
    encoder = TimmEncoder(f"local-dir:{folder}", 8, pretrained=True, readout=readout, pooling="mean").eval()
    assert encoder.region_size == 224
    same_as_timms(encoder, model)
    # timm's own way to the same.
    same_as_timms(encoder, timm.create_model(f"local-dir:{folder}", pretrained=True).eval())


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_hubs_cache_gives_timms_own_logits_without_a_network(kind: str, prefix: str, cache: Path) -> None:
    _, model = folder_of(kind, in_cache(cache))
    readout = "class" if kind == "vit" else None
    for name in (OWNER, f"{OWNER}@{REVISION}"):
        encoder = TimmEncoder(f"{prefix}{name}", 8, pretrained=True, readout=readout).eval()
        same_as_timms(encoder, model)
    assert not torch.equal(
        next(TimmEncoder(f"{prefix}{OWNER}", 8).network.parameters()), next(encoder.network.parameters())
    )


def test_another_region_size_has_the_positions_that_timm_resamples(cache: Path) -> None:
    folder, _ = folder_of("vit", in_cache(cache))
    encoder = TimmEncoder(f"hf-hub:{OWNER}", 8, region_size=96, pretrained=True, readout="class").eval()
    same_as_timms(encoder, timm.create_model(f"local-dir:{folder}", pretrained=True, img_size=96).eval(), 96)


def test_a_model_says_where_its_weights_are_from_and_is_made_again_without_them(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xt.cli.main import main

    folder, _ = folder_of("vit", in_cache(cache))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model = xt.create_model(f"hf-hub:{OWNER}", pretrained=True, dim=16, context="none").eval()
    origin = model.config.encoder_origin
    assert origin is not None
    assert {key: origin[key] for key in ("repository", "revision", "file", "sha256")} == {
        "repository": OWNER, "revision": REVISION, "file": "model.safetensors", "sha256": digest,
    }  # fmt: skip
    assert origin["architecture"] == "vit_small_patch16_224"
    model.save(tmp_path / "model.safetensors")
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    again = xt.load_model(tmp_path / "model.safetensors").eval()
    assert again.config == model.config or again.config.encoder_origin == origin
    image = xt.open_image(np.random.default_rng(0).integers(0, 256, (300, 250, 3), np.uint8))
    assert torch.equal(again(image), model(image))
    assert main(["info", str(tmp_path / "model.safetensors")]) == 0
    said = capsys.readouterr().out
    assert f"model.safetensors of {OWNER}, revision {REVISION}, sha256 {digest}" in said


def test_other_weights_under_the_same_name_are_said(cache: Path) -> None:
    folder_of("vit", in_cache(cache))
    with pytest.warns(DataWarning, match=f"hf-hub:{OWNER} holds other weights than when this configuration"):
        TimmEncoder(f"hf-hub:{OWNER}", 8, pretrained=True, origin={"sha256": "0" * 64})


@pytest.mark.parametrize("name", CARDS)
def test_cards_say_the_readout_and_what_config_json_does_not(name: str, cache: Path) -> None:
    card = CARDS[name]
    small = {
        key: value for key, value in card.options.items() if key not in ("depth", "embed_dim", "num_heads")
    }
    folder = in_cache(cache, name)
    folder.mkdir(parents=True)
    description = {
        "architecture": "vit_small_patch16_224",
        "num_features": 24,
        "pretrained_cfg": {"num_classes": 0},
    }
    (folder / "config.json").write_text(
        json.dumps(description | {"model_args": {"img_size": 224, "num_classes": 0}})
    )
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    encoder = TimmEncoder(f"hf-hub:{name}", 8, region_size=112, options=options)
    assert encoder.readout == card.readout
    assert encoder.tokens_per_region == 1
    network: Any = encoder.network.model
    if "mlp_layer" in small:
        assert type(network.blocks[0].mlp).__name__ == "SwiGLUPacked" or hasattr(network.blocks[0].mlp, "fc1")
    assert network.num_prefix_tokens == 1 + small.get("reg_tokens", 0)
    if card.statistics:
        assert encoder.scaling.mean.tolist() == pytest.approx(list(card.statistics["mean"]))
    # Who asks for more tokens has said what they are to be.
    more = TimmEncoder(f"hf-hub:{name}", 8, region_size=112, options=options, tokens_per_region=4)
    assert more.readout == ("patches" if card.readout == "class" else card.readout)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a folder with config.json and weights, .* there is no such folder"),
        ("", "its config.json cannot be read as one of timm's"),
        ("[]", "its config.json cannot be read as one of timm's"),
        ("{}", "its config.json is not one of timm's, as it names no architecture"),
        (
            '{"model_type": "dinov2"}',
            r"a model of the transformers library \(dinov2\), not one of timm's: call it transformers:/",
        ),
        (
            '{"architecture": "vit_of_2031", "pretrained_cfg": {}}',
            "names 'vit_of_2031', which timm .* does not have",
        ),
    ],
)
def test_folders_that_hold_no_model_of_timms(tmp_path: Path, content: str | None, message: str) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(f"local-dir:{folder}", 8)


@pytest.mark.parametrize("name", ["MahmoodLab/UNI", "/data/uni", "hub:MahmoodLab/UNI"])
def test_names_that_lack_where_they_are_from(name: str) -> None:
    with pytest.raises(ConfigError, match="of the hub it is hf-hub:OWNER/NAME, of a folder local-dir:PATH"):
        TimmEncoder(name, 8)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    folder, _ = folder_of("vit", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    for file in folder.glob("*.bin"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"expected one file of weights .* found none"):
        TimmEncoder(f"local-dir:{folder}", 8, pretrained=True)


class _Hub(http.server.BaseHTTPRequestHandler):
    """Refuses as the hub does."""

    answer: tuple[int, str] = (403, "GatedRepo")

    def do_HEAD(self) -> None:
        if self.path == "/":
            self.send_response(200)
        else:
            status, code = self.answer
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "no")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def refusing_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield _Hub
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "token", "message"),
    [
        ((403, "GatedRepo"), None, "given only to those whom its owners let in: ask them on .*/someone/small-vit, then "
                                   "run `hf auth login`"),
        ((403, "GatedRepo"), "x", "then wait until they have answered"),
        ((401, "RepoNotFound"), None, "there is no repository someone/small-vit on .* private and `hf auth login`"),
        ((404, "RepoNotFound"), "x", r"there is no repository someone/small-vit on 127\.0\.0\.1:\d+$"),
        ((404, "RevisionNotFound"), None, "someone/small-vit on .* has no revision 'v9'"),
        ((404, "EntryNotFound"), None, "someone/small-vit@v9 on .* has none of the files config.json"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_one_sentence(
    refusing_hub: type[_Hub],
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, str],
    token: str | None,
    message: str,
) -> None:
    monkeypatch.setattr(refusing_hub, "answer", answer)
    monkeypatch.setattr(hub, "get_token", lambda: token)
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(f"hf-hub:{OWNER}@v9", 8, pretrained=True)


def test_no_network_is_one_sentence(cache: Path) -> None:
    message = rf"weights of hf-hub:{OWNER} are not on this machine, and 127\.0\.0\.1:9 cannot be reached"
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(f"hf-hub:{OWNER}", 8)
    with pytest.raises(ConfigError, match=message):
        refuse_what_cannot_be_fetched(f"hf-hub:{OWNER}")
