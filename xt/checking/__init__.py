"""Everything about images and labels that training would stumble over, told before anything is trained."""

from xt.checking.findings import Finding, Severity
from xt.checking.result import CheckResult
from xt.checking.run import CheckOptions, check

__all__ = ["CheckOptions", "CheckResult", "Finding", "Severity", "check"]
