"""Workers as they are asked for: processes of this machine, each with a device of its own, or a Ray cluster's."""

from collections.abc import Iterator
from contextlib import contextmanager

from xt.cluster.processes import local_handles
from xt.cluster.units import Plan
from xt.cluster.worker import MakeWork
from xt.cluster.workers import Workers
from xt.errors import OptionError
from xt.machine import usable_cores


@contextmanager
def begin_workers(
    make_work: MakeWork,
    plan: Plan,
    workers: int | None,
    cluster: str | None = None,
    device: str | None = None,
) -> Iterator[Workers]:
    """Workers that end with the block.

    Args:
        plan: see `Workers`.
        workers: how many; None for as many as the cluster has room for, which is then needed.
        cluster: see `ray_handles`; None for processes of this machine, which share its cores or have a GPU each.
        device: "cpu" to leave GPUs alone, a GPU for a single process; None for GPUs where there are any.
    Raises:
        OptionError: there are fewer GPUs than workers.
        ConfigError: there is no such cluster, or it is too small.
        MissingPackageError: Ray is not installed.
    """
    if cluster is not None:
        from xt.cluster.ray_actors import ray_handles

        with (
            ray_handles(make_work, cluster, workers, device) as handles,
            Workers(handles, plan) as begun,
        ):
            yield begun
        return
    assert workers is not None, "workers are wanted"
    devices = _devices(workers, device)
    threads = max(1, usable_cores() // len(devices)) if devices[0] == "cpu" else None
    with Workers(local_handles(make_work, devices, threads), plan) as begun:
        yield begun


def _devices(count: int, wanted: str | None) -> list[str | None]:
    """One for each process.

    Raises:
        OptionError: there are fewer GPUs.
    """
    if wanted == "cpu":
        return ["cpu"] * count
    import torch

    gpus = torch.cuda.device_count()
    if wanted is None and gpus == 0:
        return ["cpu"] * count
    if wanted not in (None, "cuda"):
        if count > 1:
            raise OptionError(f"<workers> {count} needs a device for each: leave out <device> {wanted}")
        return [wanted]
    if count > gpus:
        raise OptionError(
            f"<workers> {count}: this machine has {gpus} GPUs, one for each worker; or use <device> cpu"
        )
    return [f"cuda:{number}" for number in range(count)]
