"""The engine `ray`: replicas of the app in a Ray cluster, behind this process, which listens.

Ray Serve places the replicas, looks after their health, replaces what dies, adds and removes them by what waits, and chooses who answers.
Its own HTTP proxy is not used: it gives an error where a replica dies over a request, and it has neither our limits nor our errors.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from allmrec.bulk.cluster import connect, deaths, imported
from allmrec.core.devices import chosen_device
from allmrec.core.errors import AllmrecError, ConfigError, ServerError
from allmrec.serve.config import RayConfig, ServeConfig
from allmrec.serve.front import TRIES, Errors, Front
from allmrec.serve.keys import Keys
from allmrec.serve.logs import log, logging_as_json
from allmrec.serve.replica import REFUSED, Replica
from allmrec.serve.runner import address_of, bound, name_of, run_app
from allmrec.serve.state import State

__all__ = ["serve_on_ray"]

_PURPOSE = "Serving with --engine ray"


def serve_on_ray(config: ServeConfig, started: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: of the server; `config.ray` says how many replicas, and where.
        started: takes the address once it is bound.

    Raises:
        AllmrecError: a model, the database or the cluster cannot be used.
    """
    settings = config.ray or RayConfig.model_validate({})
    ray, serve = imported("ray", _PURPOSE), imported("ray.serve", _PURPOSE)
    # What is wrong with them is said here and not by a replica.
    Keys(config.keys)
    # A replica may be started with another folder as its own.
    sent = config.model_copy(
        update={
            "ray": settings,
            "run": config.run.absolute(),
            "beside": None if config.beside is None else config.beside.absolute(),
            "keys": None if config.keys is None else config.keys.absolute(),
            "database": config.database_url,
            "device": chosen_device(config.device).partition(":")[0],
        }
    )
    with bound(config) as listening, logging_as_json("ray.serve"):
        started(address_of(listening))
        name = name_of(listening)
        sent = sent.model_copy(update={"name": name})
        state = State(config.database_url, name)
        ours = connect(ray, settings.address)
        try:
            kind = "GPU" if sent.device == "cuda" else "CPU"
            nodes = sum(node["Alive"] for node in ray.nodes())
            check_cluster(settings, state, kind, int(ray.cluster_resources().get(kind, 0)), nodes, ours)
            # What a replica that starts later is to serve, until a reload says otherwise.
            state.serve_run(str(sent.run))
            run_app(lambda failed: _Deployment(ray, serve, sent, state, name, failed).front, config, listening)
        finally:
            state.close()
            if ours:
                ray.shutdown()


def check_cluster(settings: RayConfig, state: State, kind: str, there: int, nodes: int, ours: bool) -> None:
    """Refuse what cannot work.

    Args:
        settings: how many replicas.
        state: where it is kept.
        kind: what each replica takes one of, CPU or GPU.
        there: how many of these the cluster has.
        nodes: of the cluster.
        ours: whether it was started here; another may grow.

    Raises:
        ConfigError: the state is a file, which other nodes do not see, or there is no place for the replicas.
    """
    if state.kind == "sqlite" and nodes > 1:
        raise ConfigError(
            f"The state is a SQLite file, and the cluster has {nodes} nodes; a replica on another node than the file's would serve "
            "and store a state of its own. Give a database that all nodes reach: --database postgresql://user@host/name"
        )
    wanted = settings.max_replicas or settings.replicas
    if ours and wanted > there:
        raise ConfigError(
            f"{wanted} replicas were asked for, each on a {kind}, and this machine has {there}. Give fewer, or the address of a "
            "larger cluster (--ray-address)."
        )


class _Deployment:
    """The application in the cluster: deployed when the server starts, deleted when it ends."""

    def __init__(
        self,
        ray: Any,
        serve: Any,
        config: ServeConfig,
        state: State,
        name: str,
        failed: Callable[[AllmrecError], None],
    ) -> None:
        self._serve, self._config, self._state, self._name, self._failed = serve, config, state, name, failed
        errors = Errors(deaths(ray), (serve.exceptions.BackPressureError,), (ray.exceptions.TaskCancelledError,))
        self.front = Front(config, errors, self._life)

    @asynccontextmanager
    async def _life(self, app: Any) -> AsyncIterator[None]:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            # Only the main thread of a process can.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        deploying = asyncio.create_task(self._deploy())
        yield
        # Requests in hand are answered by now; replicas end, and a deployment that waits for a place does.
        await asyncio.to_thread(self._serve.delete, self._name)
        await deploying

    async def _deploy(self) -> None:
        try:
            handle = await asyncio.to_thread(self._deployed)
        except Exception as error:  # of Ray, which has many kinds; the server ends with its words
            self._failed(_in_words(error))
            return
        answer = handle.options(method_name="answer", stream=True)
        self.front.ask = answer.remote
        log("deployed", application=self._name)

    def _deployed(self) -> Any:
        settings = self._config.ray or RayConfig.model_validate({})
        self._serve.start(proxy_location="Disabled")
        options: dict[str, Any] = {"num_replicas": settings.replicas}
        if settings.max_replicas is not None:
            scaling = {
                "min_replicas": settings.replicas,
                "max_replicas": settings.max_replicas,
                "target_ongoing_requests": settings.target_ongoing_requests,
                "upscale_delay_s": settings.upscale_delay_seconds,
                "downscale_delay_s": settings.downscale_delay_seconds,
                # Ray's own half minute would make every shorter delay longer. Its figures come every 10 seconds.
                "look_back_period_s": min(
                    30.0, max(12.0, settings.upscale_delay_seconds, settings.downscale_delay_seconds)
                ),
            }
            options = {"autoscaling_config": scaling}
        kind = self._serve.deployment(
            name="allmrec",
            ray_actor_options={"num_cpus": 1, "num_gpus": 1 if self._config.device == "cuda" else 0},
            # A replica has queues of its own, which know when a cheaper system is to answer: two lanes, both full.
            max_ongoing_requests=2 * self._config.max_queue,
            # The front limits requests; for one of them several replicas may be asked.
            max_queued_requests=TRIES * self._config.max_queue,
            graceful_shutdown_timeout_s=self._config.drain_seconds,
            max_constructor_retry_count=3,
            logging_config={"enable_access_log": False},
            **options,
        )(Replica)
        # Without a route Ray's own proxies, where others use them, do not lead here.
        return self._serve.run(kind.bind(self._config.model_dump_json()), name=self._name, route_prefix=None)

    def _reload(self) -> None:
        """SIGHUP: let every replica read the folder anew."""
        try:
            _, _, (_, run) = self._state.read(())
            self._state.serve_run(run or str(self._config.run))
        except AllmrecError as error:
            log("state not read", logging.ERROR, reason=str(error))


def _in_words(error: Exception) -> AllmrecError:
    """What of Ray's text was said by a replica of ours, else its first line."""
    _, ours, words = str(error).partition(REFUSED)
    if ours:
        return AllmrecError(words.strip().splitlines()[0])
    return ServerError(f"Ray Serve cannot deploy the server: {str(error).strip().splitlines()[0]}")
