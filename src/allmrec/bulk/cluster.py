"""A Ray cluster: whether Ray is installed, the connection, and which errors say that a process of it is gone."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from allmrec.core.errors import MissingExtraError, ServerError

__all__ = ["DEATHS", "connect", "deaths", "imported"]

# Ray's errors that say that an actor, its node or what it gave is gone, and not that the work cannot be done.
DEATHS = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")


def imported(module: str, purpose: str) -> Any:
    """A module of Ray.

    Args:
        module: its name, e.g. `ray` or `ray.serve`.
        purpose: what needs it.

    Raises:
        MissingExtraError: it, or what it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module, "ray", purpose) from error


def deaths(ray: Any) -> tuple[type[Exception], ...]:
    """The errors of `DEATHS`."""
    return tuple(getattr(ray.exceptions, name) for name in DEATHS)


def connect(ray: Any, address: str | None) -> bool:
    """Connect this process to a cluster; whether the connection is new.

    Args:
        ray: the module.
        address: of the cluster; None: the one that Ray finds (RAY_ADDRESS, or one on this machine), else one is started here.

    Raises:
        ServerError: no cluster at the address, or one that does not let this process in.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        reason = str(error).strip().splitlines()[0]
        raise ServerError(f"There is no Ray cluster to be had at {where}: {reason}") from error
    return True
