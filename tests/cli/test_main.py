import argparse
import os
import subprocess
import sys
import types
import warnings

import pytest

import xt
from xt.cli import main as cli
from xt.errors import ImageError


@pytest.fixture
def command(monkeypatch):
    """A function that puts a command named `probe` into the table and answers its module."""

    def put(run=None, **names):
        module = types.ModuleType("probe")
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int, default=1)
        module.EXAMPLES = ("xt probe --number 3",)
        module.run = run or (lambda arguments: 0)
        for name, value in names.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, "probe", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", ("probe", "try things"))
        return module

    return put


def test_help_names_every_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 85
    for name, (_, summary) in cli.COMMANDS.items():
        assert f"  {name} " in shown
        assert summary in " ".join(shown.split())


def test_help_groups_commands_by_what_one_wants(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{group}:\n") for group in ("look", "prepare", "train", "use", "share")]
    assert places == sorted(places)
    assert sum(map(len, cli.GROUPS.values())) == len(cli.COMMANDS)
    assert places[2] < shown.index("\n  train ") < places[3]


def test_help_of_a_command_ends_with_its_examples(command, capsys):
    command()
    assert cli.main(["probe", "--help"]) == 0
    assert capsys.readouterr().out.endswith("\nexamples:\n  xt probe --number 3\n")


def test_nothing_given_shows_the_help_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: xt COMMAND" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"xt {xt.__version__}\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("predcit", "xt: there is no command predcit; did you mean predict?\n"),
        ("zzz", "xt: there is no command zzz; the commands are demo, view, info, check, doctor, tile"),
        ("--fast", "xt: there is no option --fast before the command; see xt --help\n"),
    ],
)
def test_unknown_command_names_the_nearest(capsys, given, expected):
    assert cli.main([given]) == 2
    assert capsys.readouterr().err.startswith(expected)


def test_arguments_reach_the_command_and_its_status_comes_back(command):
    def run(arguments: argparse.Namespace) -> int:
        return arguments.number

    command(run)
    assert cli.main(["probe", "--number", "7"]) == 7


def test_a_command_may_parse_by_itself(command):
    seen = []
    command(run_raw=lambda argv: seen.extend(argv))
    assert cli.main(["probe", "--optim.lr=3e-4", "x"]) == 0
    assert seen == ["--optim.lr=3e-4", "x"]


def test_wrong_option_is_refused(command, capsys):
    command()
    assert cli.main(["probe", "--nummer", "7"]) == 2
    assert "unrecognized arguments: --nummer 7" in capsys.readouterr().err


def test_our_errors_are_one_line_without_traceback(command, capsys):
    def run(_: argparse.Namespace) -> int:
        raise ImageError("a.tif is not an image.")

    command(run)
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "xt: a.tif is not an image.\n"


def test_bugs_are_not_hidden(command):
    def run(_: argparse.Namespace) -> int:
        raise ZeroDivisionError("a bug")

    command(run)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["probe"])


def test_interrupted(command, capsys):
    def run(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "xt: interrupted\n"


def test_warnings_are_one_line(command, capsys):
    def run(_: argparse.Namespace) -> int:
        warnings.simplefilter("always")
        warnings.warn("big.png is slow to read", UserWarning, stacklevel=2)
        return 0

    command(run)
    assert cli.main(["probe"]) == 0
    assert capsys.readouterr().err == "xt: big.png is slow to read\n"


def test_help_imports_neither_torch_nor_rasterio():
    program = (
        "import sys; from xt.cli.main import main; main(['--help']);"
        "sys.exit(bool({'torch', 'rasterio', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_a_reader_that_leaves_is_no_error():
    program = "from xt.cli.main import main; import sys; sys.exit(main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, env=buffered, check=False
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1
