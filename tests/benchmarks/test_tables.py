"""Figures on the pages come from the files of results, and say so where they are older than their code."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from xt.context_encoders.longformer import Longformer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from published import TABLES  # noqa: E402
from published_context import beside, costs, said_of_runs  # noqa: E402
from published_gpu import faster_kernel, kernel_words  # noqa: E402
from tables import CHANGED, Measured, Table, filled, has_changed, newest, rows, stripped, text  # noqa: E402

PAGE = "before\n<!-- measured speed -->\nold\n<!-- end -->\nafter\n"


def table(**settings):
    columns = {"": "encoder", "a second": "speed", "twice": lambda row: 2 * row["speed"]}
    return Table(**({"page": "x.md", "results": "speed", "code": ["xt"], "write": rows(columns)} | settings))


def result(folder: Path, date: str, speed: float, **more) -> None:
    content = {
        "date": date,
        "cpu": "a CPU",
        "cores": 2,
        "gpu": None,
        "rows": [{"encoder": "atto", "speed": speed}],
    }
    (folder / f"speed-{date}.json").write_text(json.dumps(content | more))


def test_a_table_is_filled_from_the_newest_file_of_each_device(tmp_path: Path) -> None:
    result(tmp_path, "2026-01-01", 1.0)
    result(tmp_path, "2999-01-02", 1234.5, commit="none")
    result(tmp_path, "2999-01-01", 20.25, gpu="A100")
    assert filled(PAGE, {"speed": table()}, tmp_path).splitlines() == [
        "before",
        "<!-- measured speed -->",
        "|  | a second | twice | measured |",
        "| --- | ---: | ---: | --- |",
        "| atto | 20.2 | 40.5 | 2999-01-01, A100 |",
        "| atto | 1,234 | 2,469 | 2999-01-02, a, 2 cores, none |",
        "<!-- end -->",
        "after",
    ]


def test_older_rows_stay_where_the_newer_file_has_none(tmp_path: Path) -> None:
    result(
        tmp_path, "2999-01-01", 1.0, rows=[{"encoder": "atto", "speed": 1}, {"encoder": "tiny", "speed": 2}]
    )
    result(tmp_path, "2999-01-02", 3.0)
    shown = filled(PAGE, {"speed": table(key="encoder")}, tmp_path).splitlines()
    assert shown[4:6] == [
        "| tiny | 2 | 4 | 2999-01-01, a, 2 cores |",
        "| atto | 3.000 | 6.000 | 2999-01-02, a, 2 cores |",
    ]
    assert len(filled(PAGE, {"speed": table()}, tmp_path).splitlines()) == len(shown) - 1


def test_figures_in_words(tmp_path: Path) -> None:
    result(tmp_path, "2999-01-02", 3.0)
    words = table(write=text(lambda measured: f"It does {measured.rows[0]['speed']:g} ({measured.origin})."))
    assert "It does 3 (2999-01-02, a, 2 cores).\n" in filled(PAGE, {"speed": words}, tmp_path)


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    page = filled(PAGE, {"speed": table(empty="Empty: no GPU has been at hand.")}, tmp_path)
    assert page == PAGE.replace("old", "Empty: no GPU has been at hand.")
    assert filled(page, {"speed": table(empty="Empty: no GPU has been at hand.")}, tmp_path) == page


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True
        )

    git("init", "-q")
    for name in ("code.py", "other.py"):
        (tmp_path / name).write_text("1")
        git("add", ".")
        git("commit", "-q", "-m", name)
    return tmp_path


def commit_of(repository: Path, what: str) -> str:
    command = ["git", "rev-parse", "--short", what]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.strip()


def test_results_are_older_than_code_changed_after_their_commit(repository: Path) -> None:
    first, second = commit_of(repository, "HEAD~"), commit_of(repository, "HEAD")
    day = {"date": "2999-01-01"}
    assert has_changed(day | {"commit": first}, ["other.py"], repository)
    assert not has_changed(day | {"commit": first}, ["code.py"], repository)
    assert not has_changed(day | {"commit": f"{second} and changes"}, ["other.py"], repository)


def test_without_a_commit_the_day_decides(repository: Path) -> None:
    for commit in (None, "0123abc"):
        assert has_changed({"date": "2000-01-01", "commit": commit}, ["code.py"], repository)
        assert not has_changed({"date": "2999-01-01", "commit": commit}, ["code.py"], repository)


def test_outside_a_repository_nothing_is_said(tmp_path: Path) -> None:
    assert not has_changed({"date": "2000-01-01"}, ["code.py"], tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_its_place_and_its_code(name: str) -> None:
    page = (ROOT / TABLES[name].page).read_text()
    assert page.count(f"<!-- measured {name} -->\n") == 1
    assert [path for path in TABLES[name].code if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", sorted({table.page for table in TABLES.values()}))
def test_the_pages_show_what_the_files_hold(page: str) -> None:
    shown = (ROOT / page).read_text()
    written = filled(shown, TABLES, ROOT / "benchmarks" / "results")
    assert stripped(shown) == stripped(written), f"run python benchmarks/tables.py: {page}"
    assert shown.count("<!-- measured ") == shown.count("<!-- end -->")


def test_the_word_for_old_rows_is_all_that_is_left_out() -> None:
    assert stripped(f"2026, A100, abc{CHANGED} |") == "2026, A100, abc |"


def costs_of(
    mode: str, encoder: str = "mamba", at_262k: float | str = 120.0, **commits: str
) -> dict[str, object]:
    lengths = {"short": 2**14, "long": 2**18, "million": 2**20}
    return {
        "encoder": encoder,
        "mode": mode,
        "us/token at 16k": 100.0,
        "at 262k": at_262k,
        "262k over 16k": 1.2,
        "at 1M": 90.0,
        "peak MB at 16k": 50.0,
        "longest": 2**20,
        "bytes a token more": 2000,
        "commits": {str(lengths[name]): commit for name, commit in commits.items()},
    }


def test_what_was_not_measured_with_its_column_has_a_star_and_ratios_are_of_one_run() -> None:
    together = {"short": "one", "long": "one", "million": "two"}
    rows = [
        costs_of(mode, encoder, **together)
        for mode in ("forward", "train")
        for encoder in ("hyper", "mamba2")
    ]
    forward = costs_of("forward", short="one", long="two", million="two")
    train = costs_of("train", short="two", long="two", million="one")
    measured = Measured({"rows": [*rows, forward, train]})
    hyper, line, _ = costs(measured)
    assert hyper == ["`hyper`", *(2 * ("100", "120", "90", "1.20", "2,114", "2,000"))]
    assert line == [
        "`mamba`",
        *("100", "120*", "90", "", "2,114", "2,000"),
        *("100*", "120*", "90*", "1.20", "2,114*", "2,000*"),
    ]
    assert said_of_runs(measured).startswith(
        "Runs: forward at 16k and 262k of one, 1M of two; training step at 16k and 262k of one, 1M of two."
    )


def test_what_is_quadratic_says_how_long_it_would_take() -> None:
    rows = [costs_of(mode, "full", at_262k="-", short="one") for mode in ("forward", "train")]
    (line,) = costs(Measured({"rows": rows}))
    assert line[2] == line[8] == "not measured: 7 min, as time grows with the square"


def test_encoders_beside_others_may_be_of_several_files() -> None:
    """Rows of one file are compared with each other alone; who has nothing to stand beside stands alone."""
    point = {"length": 2**14, "peak_mb": 50.0}
    rows = [
        point | {"encoder": "gated_delta", "mode": "forward", "microseconds_per_token": 100.0},
        point | {"encoder": "gated_delta", "mode": "train", "microseconds_per_token": 300.0},
        point | {"encoder": "fla_gated_delta", "mode": "forward", "microseconds_per_token": 250.0},
        point | {"encoder": "multiscale", "mode": "forward", "microseconds_per_token": 80.0},
        point | {"encoder": "multiscale", "mode": "train", "microseconds_per_token": 90.0},
    ]
    assert beside(Measured({"rows": rows})) == [
        ["`gated_delta`", "100", "300", "50", "50"],
        ["the rule of `flash-linear-attention` in plain PyTorch", "250 (2.5 times)", "", "50", ""],
        ["`multiscale`", "80", "90", "50", "50"],
    ]


def kernels(**times: float | None) -> list[dict[str, object]]:
    names = {"flex": "longformer_flex", "blocks": "longformer"}
    return [
        {"point": f"{names[kernel]}, {mode}, 64"} | ({"microseconds_per_token": time} if time else {})
        for (kernel, mode), time in ((name.split("_"), time) for name, time in times.items())
    ]


@pytest.mark.parametrize(
    ("rows", "faster"),
    [
        (kernels(flex_forward=1.0, blocks_forward=2.0, flex_train=3.0, blocks_train=4.0), "flex"),
        (kernels(flex_forward=1.0, blocks_forward=2.0, flex_train=4.0, blocks_train=3.0), "blocks"),
        (kernels(flex_forward=1.0, blocks_forward=None), "flex"),
        (kernels(flex_forward=None, blocks_forward=2.0), "blocks"),
        (kernels(blocks_forward=2.0), "blocks"),
    ],
)
def test_the_faster_kernel_of_longformer(rows: list[dict[str, object]], faster: str) -> None:
    """One that has no time ran out of memory."""
    assert faster_kernel(rows) == faster
    content = {"date": "2999-01-01", "gpu": "A100", "rows": rows}
    assert kernel_words(Measured(content)).startswith(f"`longformer`: `{faster}` is the faster kernel")


def test_longformers_default_is_the_kernel_that_was_faster() -> None:
    measured = newest("gpu-context", ["xt"], ROOT / "benchmarks" / "results")
    wanted = faster_kernel(measured[-1].rows) if measured else "blocks"
    default = inspect.signature(Longformer).parameters["kernel"].default
    assert default == wanted, (
        "make the faster one the default on CUDA, and say so in docs/context_encoders.md"
    )
