"""On which device this process computes."""

import torch

from xt.errors import ConfigError


def choose_device(wanted: str | torch.device | None) -> torch.device:
    """The device of this name; the first GPU if there is one, else the CPU, where none is named.

    Raises:
        ConfigError: there is no such device.
    """
    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if has_gpu else "cpu") if wanted is None else wanted)
    except RuntimeError as error:
        raise ConfigError(f"there is no device {wanted!r}; use cpu, cuda or cuda:1 ...") from error
    if device.type == "cuda" and (not has_gpu or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"the device {wanted} is not there: torch sees {torch.cuda.device_count()} GPUs; use cpu"
        )
    return device
