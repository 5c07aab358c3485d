"""Ray: two workers on this machine, one of which is killed while they work; what one process would have written."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.cluster.toy_work import ToyWork, begun
from tests.prediction.dense_models import dense_model, scene
from tests.small_model import small_model
from xt.cli.main import main
from xt.cluster import ray_actors
from xt.cluster.units import Plan, units_of
from xt.cluster.workers import Workers
from xt.errors import ConfigError, MissingPackageError

pytest.importorskip("ray")


def test_without_ray_the_other_way_is_named(monkeypatch):
    from xt.cluster.ray_actors import ray_handles

    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingPackageError, match=r"pip install 'xt-vision\[cluster\]'.*--workers N"),
        ray_handles(ToyWork(Path()), "local"),
    ):
        pass


@pytest.mark.slow
def test_lost_actors_do_their_unit_again(tmp_path):
    from xt.cluster.ray_actors import ray_handles

    names = ["a", "unlucky-b", "deadly-c", "broken-d", "large-e", "warned-f"]
    plan, results = Plan(), {}
    with ray_handles(ToyWork(tmp_path), "local", num_workers=2) as handles, Workers(handles, plan) as workers:
        for outcome in workers.run(units_of((name, name) for name in names)):
            if outcome is not None and outcome.result is not None:
                results[outcome.unit.image] = outcome
    assert sorted(results) == ["a", "large-e", "unlucky-b", "warned-f"]
    assert sorted(plan.failed) == ["broken-d", "deadly-c"]
    assert plan.failed["broken-d"] == "broken-d is damaged"
    assert "the worker was lost again and again at deadly-c" in plan.failed["deadly-c"]
    assert results["warned-f"].warnings == ("mind the gap",)
    log = begun(tmp_path)
    assert log.count("unlucky-b None False") == 2
    # Ray's retries that found no actor did not begin it.
    assert 2 <= log.count("deadly-c None False") <= 5
    assert log.count("large-e None True") == 1


def test_a_cluster_that_is_not_there(tmp_path):
    from xt.cluster.ray_actors import ray_handles

    with (
        pytest.raises(
            ConfigError, match=r"no Ray cluster at 127\.0\.0\.1:1 \(.*refused\): begin one with `ray start"
        ),
        ray_handles(ToyWork(tmp_path), "127.0.0.1:1"),
    ):
        pass


def test_workers_fit_into_the_cluster():
    def share(machines: list[dict[str, float]], *wanted) -> tuple[int, dict[str, float]]:
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        return ray_actors._share(SimpleNamespace(nodes=lambda: nodes), *wanted)

    machines = [{"CPU": 8.0}, {"CPU": 16.0}, {"memory": 1.0}]
    assert share(machines, None, None) == (2, {"num_cpus": 8}), "one on each machine that computes"
    assert share(machines, 5, None) == (5, {"num_cpus": 2})
    assert share(machines, 24, None) == (24, {"num_cpus": 1})
    with pytest.raises(ConfigError, match=r"--workers 25: the cluster has 24 CPUs, one for each worker"):
        share(machines, 25, None)
    gpus = [{"CPU": 8.0, "GPU": 8.0}, {"CPU": 8.0}]
    assert share(gpus, None, None) == (8, {"num_cpus": 1, "num_gpus": 1})
    assert share(gpus, None, "cpu") == (2, {"num_cpus": 8})
    with pytest.raises(ConfigError, match=r"--workers 9: the cluster has 8 GPUs"):
        share(gpus, 9, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers for each pixel, and 40 small scenes, of which one is cut off."""
    path = tmp_path_factory.mktemp("cluster")
    dense_model().save(path / "model.safetensors")
    (path / "scenes").mkdir()
    for number in range(40):
        pixels = np.roll(scene(130 + number % 7, 150), 3 * number, axis=1)
        Image.fromarray(pixels).save(path / "scenes" / f"scene{number:02d}.png")
    broken = path / "scenes" / "scene17.png"
    broken.write_bytes(broken.read_bytes()[:5000])
    return path


def arguments(folder: Path, out: str) -> list[str]:
    return [
        "predict", str(folder / "model.safetensors"), str(folder / "scenes"), "--out", str(folder / out),
        "--device", "cpu", "--no-overlay", "--region-batch", "4", "--probabilities",
    ]  # fmt: skip


def lines(out: Path) -> list[dict[str, str]]:
    """The manifest so far."""
    if not (out / "manifest.jsonl").exists():
        return []
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def files(out: Path) -> dict[str, bytes]:
    kept = ("manifest.jsonl", "predictions.json")
    return {
        path.name: path.read_bytes()
        for path in sorted(out.iterdir())
        if path.name not in kept and path.name[0] != "."
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_forty_images_one_broken_one_worker_killed(folder):
    assert main(arguments(folder, "one")) == 1
    expected = files(folder / "one")
    assert sum(name.endswith(".mask.tif") for name in expected) == 39

    command = [sys.executable, "-m", "xt.cli.main", *arguments(folder, "many")]
    command += ["--cluster", "local", "--workers", "2", "--band-regions", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while len(lines(folder / "many")) < 6:
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        workers = {line["worker"] for line in lines(folder / "many") if "worker" in line}
        victim = sorted(workers)[0]
        os.kill(int(victim.split(":")[1]), signal.SIGKILL)
        killed_at = len(lines(folder / "many"))
        said, complained = run.communicate()
    assert run.returncode == 1, complained
    assert "40 images: 39 predicted, 1 failed" in said
    assert "failed: " in complained
    assert "scene17.png is damaged or cut off" in complained.splitlines()[-1]
    assert killed_at < 30, "it was killed in mid-run"
    found = files(folder / "many")
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    with (folder / "many" / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 39

    done = [line["image"] for line in lines(folder / "many") if line.get("status") == "done"]
    assert len(done) == len(set(done)) == 39
    after = {line["worker"] for line in lines(folder / "many")[killed_at:] if "worker" in line}
    assert len(after - workers) >= 1, "a new worker came for the one that was lost"

    before = {name: (folder / "many" / name).stat().st_mtime_ns for name in found if name[-4:] == ".tif"}
    so_far = len(lines(folder / "many"))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr
    assert "40 images: 39 done before, 1 failed" in again.stdout
    assert [line.get("status") for line in lines(folder / "many")[so_far:]] == [None, "failed"]
    assert {name: (folder / "many" / name).stat().st_mtime_ns for name in before} == before
    assert files(folder / "many") == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["by_model, whole images", "by_content, masks", "by_model, masks"])
def test_budgets_are_those_of_one_process(kind, folder, tmp_path):
    """What a model that chooses looks at and says in a cluster, large images in bands, is byte for byte the same."""
    regions, about = kind.split(", ")
    settings = {"regions": regions, "regions_options": {"budget": 0.9}}
    masks = about == "masks"
    model = dense_model(**settings) if masks else small_model(context="none", **settings)
    model.save(tmp_path / "model.safetensors")
    command = ["predict", str(tmp_path / "model.safetensors"), "--device", "cpu", "--no-overlay"]
    command += [str(folder / "scenes" / f"scene0{number}.png") for number in range(3)]
    command += ["--region-batch", "2", "--budget", "6", *(["--probabilities"] if masks else [])]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    expected = files(tmp_path / "one")
    assert sum(name.endswith(".regions.geojson") for name in expected) == 3
    many = ["--cluster", "local", "--workers", "2", "--band-regions", "2", "--out", str(tmp_path / "many")]
    assert main([*command, *many]) == 0
    found = files(tmp_path / "many")
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    bands = [line for line in lines(tmp_path / "many") if line.get("bands")]
    assert len(bands) == (3 if masks else 0), bands
