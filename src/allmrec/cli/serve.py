"""`allmrec serve`: a trained run behind HTTP, with a page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allmrec.cli.options import DeviceOption, RunArgument, announce
from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.pipeline.run import Run
from allmrec.recipes.files import parse_changes

if TYPE_CHECKING:
    from allmrec.serve.config import ServeConfig

__all__ = ["register"]


class EngineName(StrEnum):
    """What the app runs in."""

    processes = "processes"
    ray = "ray"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(
        "serve", help="Serve a trained run: an HTTP API and a page. Ctrl-C or SIGTERM ends it, SIGHUP reloads."
    )
    def serve(
        run: RunArgument,
        host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
        workers: Annotated[int, typer.Option(min=1, help="Processes; each holds the models.")] = 1,
        engine: Annotated[
            EngineName,
            typer.Option(help="processes: on this machine; ray: replicas in a Ray cluster behind this process."),
        ] = EngineName.processes,
        replicas: Annotated[
            int | None,
            typer.Option(
                min=1, help="With --engine ray: how many hold the models; with autoscaling the fewest. Default: 1."
            ),
        ] = None,
        max_replicas: Annotated[
            int | None, typer.Option(min=1, help="With --engine ray: autoscale by the requests in hand, up to so many.")
        ] = None,
        target_requests: Annotated[
            float | None,
            typer.Option(min=0.1, help="With --max-replicas: requests in hand of a replica to aim at. Default: 8."),
        ] = None,
        upscale_delay: Annotated[
            float | None,
            typer.Option(
                min=0, help="With --max-replicas: seconds of more to do before a replica is added. Default: 30."
            ),
        ] = None,
        downscale_delay: Annotated[
            float | None,
            typer.Option(min=0, help="With --max-replicas: seconds of less to do before one is removed. Default: 600."),
        ] = None,
        ray_address: Annotated[
            str | None,
            typer.Option(help="With --engine ray: of a cluster. Default: one that is found or started here."),
        ] = None,
        database: Annotated[
            str | None,
            typer.Option(
                help="Where events and items are kept, as a URL: postgresql://… Default: SQLite in the run's folder."
            ),
        ] = None,
        system: Annotated[
            list[str] | None, typer.Option("--system", help="A system to offer beside the usual ones; repeatable.")
        ] = None,
        default_system: Annotated[
            str | None, typer.Option(help="What answers unless a request says another; default: A-LLMRec.")
        ] = None,
        beside: Annotated[Path | None, typer.Option(help="A second run, which answers a share of the users.")] = None,
        share: Annotated[float, typer.Option(min=0, max=1, help="Share of the users whom --beside answers.")] = 0.0,
        keys: Annotated[
            Path | None, typer.Option(help="File of hashed API keys; with it every request needs one.")
        ] = None,
        new_key: Annotated[
            str | None,
            typer.Option(help="Make an API key of this name, print it once, put its hash into --keys, and end."),
        ] = None,
        role: Annotated[
            list[str] | None, typer.Option("--role", help="What --new-key may do: read, write, admin; repeatable.")
        ] = None,
        open_to_all: Annotated[bool, typer.Option("--open", help="Listen beyond this machine without keys.")] = False,
        allow_host: Annotated[
            list[str] | None, typer.Option("--allow-host", help="A name that the server answers under; repeatable.")
        ] = None,
        cors: Annotated[
            list[str] | None, typer.Option("--cors", help="An origin whose pages may call the API; repeatable.")
        ] = None,
        window_ms: Annotated[
            float, typer.Option(min=0, help="How long the language model waits for others to share a pass.")
        ] = 5.0,
        max_queue: Annotated[int, typer.Option(min=1, help="Requests that wait at the most; more get 429.")] = 128,
        deadline_ms: Annotated[
            float, typer.Option(min=1, help="How long an answer may take before a cheaper system takes over.")
        ] = 10_000,
        changes: Annotated[
            list[str] | None,
            typer.Option("--set", help="Change another limit, e.g. max_k=500; repeatable. `GET /v1/model` lists them."),
        ] = None,
        log_users: Annotated[bool, typer.Option("--log-users", help="Let log lines name users.")] = False,
        export: Annotated[
            Path | None,
            typer.Option(
                help="Write the run's data with all events and items as tables for `prepare` into a folder, and end."
            ),
        ] = None,
        device: DeviceOption = "auto",
    ) -> None:
        try:
            from allmrec.serve.config import ServeConfig
            from allmrec.serve.runner import serve as serve_run
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "fastapi", "serve", "Serving") from error
        if new_key is not None:
            _make_key(keys, new_key, role or ["read"])
            return
        if role:
            raise ConfigError("--role says what --new-key may do; give both.")
        config = parse_config(
            ServeConfig,
            {
                "run": run,
                "host": host,
                "port": port,
                "workers": workers,
                "ray": _ray(
                    engine,
                    {"replicas": replicas, "address": ray_address},
                    {
                        "max_replicas": max_replicas,
                        "target_ongoing_requests": target_requests,
                        "upscale_delay_seconds": upscale_delay,
                        "downscale_delay_seconds": downscale_delay,
                    },
                ),
                "database": database,
                "systems": tuple(system or ()),
                "default_system": default_system,
                "beside": beside,
                "share": share,
                "keys": keys,
                "open": open_to_all,
                "hosts": tuple(allow_host or ()),
                "cors": tuple(cors or ()),
                "window_ms": window_ms,
                "max_queue": max_queue,
                "deadline_ms": deadline_ms,
                "log_users": log_users,
                "device": device,
                **_limits(changes or []),
            },
            "The server",
        )
        # A wrong folder is reported at once.
        opened = Run.open(run, device)
        if export is not None:
            _export(opened, config, export)
            return
        if config.ray is not None:
            from allmrec.serve.on_ray import serve_on_ray as serve_run
        serve_run(config, lambda address: announce(f"Listening at {address}. The page is there too. Ctrl-C ends it."))


def _limits(changes: list[str]) -> dict[str, Any]:
    from allmrec.serve.config import LIMITS

    found = parse_changes(changes)
    if unknown := [name for name in found if name not in LIMITS]:
        raise ConfigError(f"--set changes a limit; there is none called {unknown[0]!r} among {', '.join(LIMITS)}.")
    return found


def _ray(engine: EngineName, fixed: dict[str, Any], scaling: dict[str, Any]) -> dict[str, Any] | None:
    """Fields of a `RayConfig` that were given; none where the engine is another."""
    given = {name: value for name, value in {**fixed, **scaling}.items() if value is not None}
    if given.keys() & scaling.keys() and "max_replicas" not in given:
        raise ConfigError("--target-requests, --upscale-delay and --downscale-delay go with --max-replicas.")
    if engine is EngineName.ray:
        return given
    if given:
        raise ConfigError("--replicas, --max-replicas and --ray-address go with --engine ray.")
    return None


def _make_key(path: Path | None, name: str, roles: list[str]) -> None:
    from allmrec.serve.keys import ROLES, add_key

    if path is None:
        raise ConfigError("--new-key needs --keys FILE, where the key's hash goes.")
    wanted = [one for one in ROLES if one in roles]
    if len(wanted) != len(set(roles)):
        raise ConfigError(f"--role may be {', '.join(ROLES)}; found {', '.join(roles)}.")
    announce(add_key(path, name, wanted))
    announce(f"This key is shown once; {path} has its hash.")


def _export(run: Run, config: ServeConfig, folder: Path) -> None:
    from allmrec.serve.export import export
    from allmrec.serve.state import State

    # A place that was named and is not there is a slip. It reads everything, which takes as long as it takes.
    state = State(config.database_url, must_exist=config.database is not None, seconds=None)
    done = export(run.dataset, state, folder)
    state.close()
    announce(
        f"Wrote {done.from_data:,} interactions of the run's data, {done.from_events:,} events that it does not hold, and {done.added:,} items "
        "that came after training."
    )
    if done.unknown:
        announce(f"{done.unknown:,} of the events name items that neither the data nor the added items hold.")
    # Items that nobody interacted with are left out otherwise, and new ones are such.
    keep = " --keep-items" if done.added else ""
    announce(f"Next: allmrec prepare table --interactions {done.interactions} --items {done.items}{keep} -o DATA")
