"""`xt completion bash|zsh`: a script by which the shell completes commands, options, recipes and files on TAB.

It is written once and starts no Python on TAB. shtab makes it from argparse's parsers, also of the commands that parse
by themselves.
"""

import argparse
from importlib import import_module
from pathlib import Path

EXAMPLES = ("xt completion bash > xt.bash", "xt completion zsh > _xt")
_FOLDERS = ("DIR", "STORE.zarr", "TABLE|FOLDER")
_CONFIGURATIONS = ("CONFIG", "CHECKPOINT_OR_CONFIG", "MODEL")
_RECIPE = "NAME"
_FUNCTION, _RECIPES_FUNCTION = "_xt_configurations", "_xt_recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="the one that you use: echo $SHELL")
    parser.epilog = (
        "bash: source the file in ~/.bashrc, or write it to ~/.local/share/bash-completion/completions/xt. zsh: write "
        "it as _xt to a folder of $fpath."
    )


def run(arguments: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(whole_parser(), arguments.shell, preamble=_preamble()[arguments.shell]))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """All commands in one parser, which only completion needs: it imports the module of each."""
    from xt.cli.main import COMMANDS

    parser = argparse.ArgumentParser(prog="xt")
    commands = parser.add_subparsers()
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        import_module(module_name).add_arguments(command)
        for action in command._actions:
            _complete(action)
    return parser


def _complete(action: argparse.Action) -> None:
    """Say what an argument is completed by, where argparse does not know."""
    import shtab

    if action.choices is not None or action.nargs == 0:
        return
    if action.metavar in _CONFIGURATIONS:
        action.complete = {"bash": _FUNCTION, "zsh": _FUNCTION}  # type: ignore[attr-defined]
    elif action.metavar == _RECIPE:
        action.complete = {"bash": _RECIPES_FUNCTION, "zsh": _RECIPES_FUNCTION}  # type: ignore[attr-defined]
    elif action.metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    elif action.type in (Path, None):
        # Of a text it is not known whether it names a file, as most texts do.
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _preamble() -> dict[str, str]:
    from xt.recipes import recipes

    names = " ".join(recipes())
    return {
        "bash": f'{_RECIPES_FUNCTION}() {{ compgen -W "{names}" -- "$1"; }}\n'
        f'{_FUNCTION}() {{ {_RECIPES_FUNCTION} "$1"; compgen -f -- "$1"; }}',
        "zsh": f"{_RECIPES_FUNCTION}() {{ _alternative 'recipes:recipe:({names})' }}\n"
        f"{_FUNCTION}() {{ _alternative 'recipes:recipe:({names})' 'files:file:_files' }}",
    }
