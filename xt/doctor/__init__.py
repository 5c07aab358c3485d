"""What this machine has for `xt`, and what each part of it lacks, with what to do: `xt doctor`."""

from collections.abc import Callable, Mapping

from xt.doctor.machine import cores, devices, disk, memory, network
from xt.doctor.report import Finding, Report
from xt.doctor.software import formats, optional_parts, versions
from xt.doctor.weights import weights

_SECTIONS: Mapping[str, Callable[[], list[Finding]]] = {
    "versions": versions,
    "optional parts": optional_parts,
    "formats": formats,
    "cores": cores,
    "memory": memory,
    "devices": devices,
    "disk": disk,
    "weights": weights,
    "network": network,
}


def doctor() -> Report:
    """Look at everything; a part that cannot be looked at is told like one that lacks something."""
    return Report({name: _tried(name, look) for name, look in _SECTIONS.items()})


def _tried(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except Exception as error:  # whatever a broken installation leads to
        return [Finding(name, None, "", lacks=f"could not be found out: {type(error).__name__}: {error}")]


__all__ = ["Finding", "Report", "doctor"]
