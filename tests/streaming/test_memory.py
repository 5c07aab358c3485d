"""How much memory is free where control groups limit it."""

from pathlib import Path

import pytest
import torch

from xt.streaming import memory

MB = 2**20


def group(folder: Path, limit: str, taken: int, stat: str, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        ("memory.max", "memory.current")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(f"{taken}\n")
    (folder / "memory.stat").write_text(stat)


def free_in(monkeypatch: pytest.MonkeyPatch, folder: Path, own: str) -> int:
    (folder / "own").write_text(own)
    monkeypatch.setattr(memory, "_GROUPS", folder)
    monkeypatch.setattr(memory, "_OWN_GROUPS", folder / "own")
    monkeypatch.setattr(memory, "_free_on_machine", lambda: 10**15)
    return memory.free_bytes(torch.device("cpu"))


def test_copies_of_files_do_not_count_as_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = f"anon {100 * MB}\nfile {880 * MB}\ninactive_file {500 * MB}\nactive_file {380 * MB}\n"
    group(tmp_path, str(1000 * MB), 990 * MB, stat)
    assert free_in(monkeypatch, tmp_path, "0::/\n") == 890 * MB


def test_the_tightest_of_the_groups_around_the_process_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    group(tmp_path / "slurm" / "job_7", str(300 * MB), 100 * MB, "")
    group(tmp_path / "slurm" / "job_7" / "step", "max", 100 * MB, "")
    group(tmp_path / "slurm", str(900 * MB), 100 * MB, "")
    assert free_in(monkeypatch, tmp_path, "0::/slurm/job_7/step\n") == 200 * MB
    assert free_in(monkeypatch, tmp_path, "0::/slurm/job_8\n") == 800 * MB


def test_version_1_and_the_names_of_the_world_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = f"inactive_file 1\ntotal_inactive_file {50 * MB}\ntotal_active_file 0\n"
    group(tmp_path / "memory", str(500 * MB), 450 * MB, stat, version=1)
    own = "3:cpu,cpuacct:/docker/5f\n2:memory:/docker/5f\n0::/docker/5f\n"
    assert free_in(monkeypatch, tmp_path, own) == 100 * MB


def test_without_a_limit_it_is_the_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group(tmp_path, "max", 450 * MB, "")
    assert free_in(monkeypatch, tmp_path, "0::/\n") == 10**15
