"""`xt doctor`: everything is looked at, and whatever is missing or broken is a line with what to do."""

import json
import os
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

import xt.doctor
from xt import doctor as package
from xt.cli.main import main
from xt.doctor import Finding, Report, doctor
from xt.doctor.software import formats, optional_parts, versions
from xt.doctor.weights import weights


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt.region_encoders.hub.probe", lambda url: "the hub cannot be reached (tested)")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {found.name: found for found in findings}


def test_everything_is_told_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        "versions", "optional parts", "formats", "cores", "memory", "devices", "disk", "weights", "network",
    ]  # fmt: skip
    assert told["versions"]["torch"]["value"] == metadata.version("torch")
    assert "GTiff" in told["formats"]["GDAL, rasters"]["value"]["drivers"]
    assert "svs" in told["formats"]["OpenSlide"]["value"]["endings"]
    assert told["cores"]["number"]["value"] >= 1
    assert told["memory"]["free"]["value"] > 1e6
    assert told["disk"]["here"]["value"]["folder"] == str(Path.cwd())
    assert "convnext_tiny.in12k_ft_in1k" in told["weights"]
    assert told["network"]["hub"]["value"] is False
    assert "--model.pretrained=false" in told["network"]["hub"]["lacks"]
    assert "the hub cannot be reached (tested)" in text
    assert all(f"\n{section}\n" in f"\n{text}" for section in told)
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("columns", [60, 80])
def test_it_fits_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "what is said of it, at some length, and what to do about it when it is not as it should be"
    findings = [Finding("gpu", 1, long), Finding("convnext_tiny.in12k_ft_in1k", None, long, lacks=long)]
    shown = str(Report({"short": findings[:1], "long": findings})).splitlines()
    assert max(map(len, shown)) <= columns
    assert "  convnext_tiny.in12k_ft_in1k" in shown
    assert sum(line.startswith("      ") and len(line) > columns / 2 for line in shown) >= 2


def test_a_package_that_is_missing_or_too_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if name == "rasterio":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "timm" else original(name)

    original = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    found = by_name(versions())
    assert found["rasterio"].lacks.startswith("pip install 'rasterio")
    assert found["timm"].lacks.startswith("too old: pip install 'timm>=")
    monkeypatch.setattr(package, "_SECTIONS", {"versions": versions})
    assert main(["doctor"]) == 1
    assert "2 lines with ! say what is lacking; some of it is needed" in capsys.readouterr().out


def test_sources_that_were_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert {"xt", "python", "torch", "rasterio"} <= by_name(versions()).keys()


@pytest.mark.parametrize(
    ("module", "name"),
    [("rasterio", "GDAL, rasters"), ("pyogrio", "GDAL, vectors"), ("openslide", "OpenSlide")],
)
def test_a_library_that_cannot_be_loaded_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = by_name(formats())
    assert "cannot be loaded: ModuleNotFoundError" in found[name].lacks
    assert sum(bool(other.lacks and other.needed) for other in found.values()) == 1


def test_whatever_breaks_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise OSError("libcuda.so.1: wrong ELF class")

    monkeypatch.setattr(package, "_SECTIONS", {"devices": broken})
    assert "could not be found out: OSError: libcuda.so.1: wrong ELF class" in str(doctor())


def test_optional_parts_that_are_missing_say_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt.doctor.software.find_spec", lambda name: None)
    found = by_name(optional_parts())
    assert found["ray"].value is None
    assert "pip install 'xt-vision[cluster]'" in found["ray"].lacks
    assert not any(part.needed for part in found.values())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
@pytest.mark.parametrize(("load", "said"), [(0.5, ""), (12.0, "about 4.0 times as long")])
def test_cores_that_others_want(monkeypatch: pytest.MonkeyPatch, load: float, said: str) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    found = by_name(xt.doctor.cores())
    assert found["number"].value == 4
    assert said in found["load"].lacks
    assert bool(found["load"].lacks) == bool(said)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 9, 10**9))
    assert all(found.lacks.startswith("little") for found in xt.doctor.disk())


def test_weights_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, files in (("timm--whole", ["model.safetensors"]), ("timm--broken_off", [])):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        for file in files:
            (snapshot / file).touch()
    found = by_name(weights())
    assert found["hub's cache"].value == ["timm/whole"]
    assert found["convnext_tiny.in12k_ft_in1k"].value is None
    assert "classification, detection" in found["convnext_tiny.in12k_ft_in1k"].text


def test_a_report_in_which_nothing_is_lacking() -> None:
    report = Report({"parts": [Finding("one", 1), Finding("two", [])]})
    assert str(report) == "parts\n  one  1\n  two  none\nnothing is lacking"
    assert report.is_fit
