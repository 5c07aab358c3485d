"""Cox's likelihood compares the images of all processes: its gradients are those of one process that has them all."""

from pathlib import Path

import pytest

from tests.distributed.processes import run_processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "region_ranks"),
    [(2, 1), (2, 2), (4, 2)],
)
def test_gradients_are_those_of_one_process(tmp_path: Path, processes: int, region_ranks: int) -> None:
    out = tmp_path / "worst"
    run_processes(processes, "-m", "tests.distributed.survival_worker", str(region_ranks), str(out))
    assert float(out.read_text()) < 1e-9
