"""Everything about images and labels that training would stumble over, told before anything is trained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.checking.findings import Finding, Severity
    from xt.checking.result import CheckResult
    from xt.checking.run import CheckOptions, check

__all__ = ["CheckOptions", "CheckResult", "Finding", "Severity", "check"]

_MODULES = {
    "Finding": "findings", "Severity": "findings", "CheckResult": "result", "CheckOptions": "run", "check": "run",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # What a table is for is told without PyTorch, which a check loads.
    if name not in _MODULES:
        raise AttributeError(f"module 'xt.checking' has no attribute {name!r}")
    return getattr(import_module(f"xt.checking.{_MODULES[name]}"), name)
