"""Workers of a Ray cluster: one actor for each device. Ray places them, restarts lost ones and repeats their unit."""

import contextlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from xt.cluster.units import Outcome, WorkUnit
from xt.cluster.worker import HowFar, MakeWork, Worker
from xt.cluster.workers import ATTEMPTS, first_line
from xt.errors import ConfigError, MissingPackageError
from xt.machine import usable_cores

LOCAL = "local"
_SECONDS_TO_ANSWER = 20.0
_NO_LIMIT = -1
# Ray also counts attempts that come while a lost actor is not there again yet.
_RETRIES = 2 * (ATTEMPTS - 1)
_PROGRESS = "progress"


class ActorHandle:
    """A worker in a Ray actor. Ray restarts it where it was lost, and repeats its unit."""

    attempts = 1

    def __init__(self, actor: Any) -> None:
        from ray.exceptions import RayError

        self.latest: HowFar | None = None
        self.lost = (RayError,)
        self._actor = actor
        self._asked: Future[HowFar | None] | None = None

    def begun(self) -> Future[Any]:
        return self._future(self._actor.name.options(concurrency_group=_PROGRESS).remote())

    def submit(self, unit: WorkUnit) -> Future[Outcome]:
        return self._future(self._actor.do.remote(unit))

    def look(self) -> None:
        if self._asked is not None and self._asked.done():
            if self._asked.exception() is None:
                self.latest = self._asked.result()
            self._asked = None
        if self._asked is None:
            options = {"concurrency_group": _PROGRESS, "max_task_retries": 0}
            self._asked = self._future(self._actor.latest.options(**options).remote())

    def close(self) -> None:
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._actor)

    def _future(self, reference: Any) -> Future[Any]:
        future: Future[Any] = reference.future()
        return future


@contextlib.contextmanager
def ray_handles(
    make_work: MakeWork, address: str, num_workers: int | None = None, device: str | None = None
) -> Iterator[list[ActorHandle]]:
    """Handles of actors on a cluster, which end with the block.

    Args:
        address: of a running cluster ("auto", "10.0.0.5:6379", "ray://10.0.0.5:10001"), or "local" for one of this
            machine that is begun here and ends with the block. A connection that is there already is used as it is.
        num_workers: None for one on each GPU, or one on each machine where there are none.
        device: "cpu" to leave GPUs alone; None for GPUs where there are any.
    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: there is no cluster at the address, or it is too small.
    """
    ray = _import_ray()
    begun_here = not ray.is_initialized()
    if begun_here:
        _connect(ray, address, num_workers)
    try:
        actor_class = ray.remote(
            concurrency_groups={_PROGRESS: 1}, max_restarts=_NO_LIMIT, max_task_retries=_RETRIES
        )(Worker)
        num_workers, resources = _share(ray, num_workers, device)
        # Once, and not with each worker.
        shared = ray.put(make_work)
        options: dict[str, Any] = {**resources, "runtime_env": {"env_vars": _inherited()}}
        actors = [actor_class.options(**options).remote(shared, device) for _ in range(num_workers)]
        yield [ActorHandle(actor) for actor in actors]
    finally:
        if begun_here:
            ray.shutdown()


def _import_ray() -> Any:
    # Ray would tell its makers that it is used, unless the user has said something about that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Where no GPU is asked for, it would otherwise hide them with a warning about doing so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingPackageError(
            "--cluster needs Ray: pip install 'xt-vision[cluster]'. Without it, --workers N predicts with N processes "
            "on this machine."
        ) from error
    return ray


def _inherited() -> dict[str, str]:
    """What processes of this machine would inherit of our own settings, such as the files of `--import`."""
    return {name: value for name, value in os.environ.items() if name.startswith("XT_")}


def _connect(ray: Any, address: str, num_workers: int | None) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address == LOCAL:
        _begin_here(
            ray, {"num_cpus": max(num_workers or 1, usable_cores()), "include_dashboard": False, **quiet}
        )
        return
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {address} ({first_line(error)}): begin one with `ray start --head`, then "
            "--cluster auto on the same machine or --cluster HOST:6379; or use --cluster local"
        ) from error


def _knock(address: str) -> None:
    """Find out in a moment that nobody answers there, for which Ray takes minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()


def _begin_here(ray: Any, settings: dict[str, Any]) -> None:
    for attempt in range(ATTEMPTS):
        try:
            ray.init(address="local", **settings)
            return
        except Exception as error:
            # Ray gives itself 30 seconds, in which a busy machine may not have begun its processes.
            ray.shutdown()
            if attempt + 1 == ATTEMPTS:
                raise ConfigError(
                    f"Ray did not begin on this machine ({first_line(error)}): use --workers N, which does without it"
                ) from error


def _share(ray: Any, num_workers: int | None, device: str | None) -> tuple[int, dict[str, float]]:
    """How many workers there are, and what each takes of a machine.

    Raises:
        ConfigError: more are wanted than there is room for.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    if gpus and device != "cpu":
        return _at_most(gpus, num_workers, "GPUs"), {"num_cpus": 1, "num_gpus": 1}
    cpus = [int(machine["CPU"]) for machine in machines]
    count = _at_most(sum(cpus), num_workers or len(machines), "CPUs")
    each = min(cpus) // -(-count // len(cpus))
    return count, {"num_cpus": max(each, 1)}


def _at_most(there: int, wanted: int | None, what: str) -> int:
    if wanted is not None and wanted > there:
        raise ConfigError(f"--workers {wanted}: the cluster has {there} {what}, one for each worker")
    return wanted or there
