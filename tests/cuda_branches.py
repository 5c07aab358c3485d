"""Where the code does something on CUDA that it does nowhere else, found by reading it."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "xt"


def branches() -> set[tuple[str, str]]:
    """(file from the root, qualified name) of each function that asks for CUDA or the CPU, or uses what differs."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "testing":
            continue  # tests themselves
        name = str(path.relative_to(PACKAGE.parent))
        found |= {
            (name, function) for function, node in _functions(ast.parse(path.read_text())) if _asks(node)
        }
    return found


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        else:
            yield from _functions(child, prefix)


def _asks(function: ast.AST) -> bool:
    return any(_is_cudas(node) for node in ast.walk(function))


def _is_cudas(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value == "cuda" or (isinstance(node.value, str) and node.value.startswith("cuda:"))
    if isinstance(node, ast.Attribute):
        return node.attr in ("is_cuda", "cuda", "OutOfMemoryError", "autocast")
    if isinstance(node, ast.keyword):
        return node.arg in ("pin_memory", "non_blocking")
    if isinstance(node, ast.Compare):
        # What is done on the CPU alone is done otherwise elsewhere.
        return any(isinstance(side, ast.Constant) and side.value == "cpu" for side in node.comparators)
    # Tables of the CPU's own values, beside which another holds for all other devices.
    return isinstance(node, ast.Name) and node.id.endswith("_ELSEWHERE")


if __name__ == "__main__":
    for place in sorted(branches()):
        print(*place)
