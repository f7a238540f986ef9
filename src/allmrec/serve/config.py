"""What a server is told: the run, where it listens, its limits, and where its state is kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from allmrec.core.config import Config

__all__ = ["LIMITS", "LOOPBACK", "RayConfig", "ServeConfig"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LIMITS = (
    "max_k",
    "max_requests",
    "max_rows",
    "max_documents",
    "max_body",
    "max_queue",
    "max_batch",
    "deadline_ms",
    "read_seconds",
    "drain_seconds",
)
"""Fields of `ServeConfig` that a client may want to know, and that `allmrec serve --set` changes."""


class RayConfig(Config):
    """How the app is served by replicas in a Ray cluster."""

    address: str | None = Field(
        None, description="Of the cluster; none: the one that Ray finds, else one is started here."
    )
    replicas: int = Field(1, ge=1, le=1000, description="Processes that hold the models; with autoscaling the fewest.")
    max_replicas: int | None = Field(
        None, ge=1, le=1000, description="Autoscaling up to so many; none: no autoscaling."
    )
    target_ongoing_requests: float = Field(
        8.0, gt=0, description="Requests in hand of one replica that autoscaling aims at."
    )
    upscale_delay_seconds: float = Field(30.0, ge=0, description="How long there is more to do before a replica comes.")
    downscale_delay_seconds: float = Field(600.0, ge=0, description="How long there is less before one goes.")

    @model_validator(mode="after")
    def _fits(self) -> RayConfig:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}; it is at least replicas, which is {self.replicas}")
        return self


class ServeConfig(Config):
    """Settings of one server."""

    run: Path = Field(description="Folder of a trained run, or one that `save_pretrained` wrote.")
    beside: Path | None = Field(None, description="A second run that answers a share of the requests.")
    share: float = Field(0.0, ge=0, le=1, description="Share of the users whom the second run answers.")
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps, or auto.")
    systems: tuple[str, ...] = Field((), description="Systems to offer beside the usual ones.")
    default_system: str | None = Field(None, description="What answers unless a request says another; none: A-LLMRec.")
    host: str = Field("127.0.0.1", description="Address to listen at.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen at.")
    name: str = Field(
        "", description="What tells servers apart that share a database, where each has several processes."
    )
    workers: int = Field(1, ge=1, le=64, description="Processes; each holds the models.")
    ray: RayConfig | None = Field(
        None, description="Replicas in a Ray cluster instead; none: processes of this machine."
    )
    database: str | None = Field(
        None,
        description="Where events and items are kept, as SQLAlchemy's URL; none: a SQLite file in the run's folder.",
    )
    keys: Path | None = Field(
        None, description="File of hashed API keys; none: no key is asked for, and /admin is shut."
    )
    open: bool = Field(False, description="Listen beyond this machine without keys.")
    cors: tuple[str, ...] = Field((), description="Origins whose pages may call the API.")
    hosts: tuple[str, ...] = Field(
        (), description="Names under which the server answers; none: with keys any, without them those of this machine."
    )
    window_ms: float = Field(
        5.0, ge=0, le=1000, description="How long the language model waits for others to share a pass."
    )
    max_batch: int = Field(32, ge=1, le=1024, description="Requests that are computed together at the most.")
    max_queue: int = Field(128, ge=1, le=100_000, description="Requests that wait for one part at the most.")
    deadline_ms: float = Field(
        10_000, gt=0, le=600_000, description="How long an answer may take unless a request says less."
    )
    max_k: int = Field(100, ge=1, le=10_000, description="The most items that a request may ask for.")
    max_requests: int = Field(64, ge=1, le=10_000, description="Requests in one call, at the most.")
    max_rows: int = Field(1000, ge=1, le=100_000, description="Events or items in one call, at the most.")
    max_documents: int = Field(200, ge=1, le=10_000, description="Documents of one reranking, at the most.")
    max_body: int = Field(1_000_000, ge=1024, description="Bytes of a request's body, at the most.")
    read_seconds: float = Field(
        10.0, gt=0, description="How long a request's head, and then its body, may take to come."
    )
    drain_seconds: float = Field(
        30.0, gt=0, description="How long requests that are in hand may take once the server stops."
    )
    log_users: bool = Field(False, description="Let log lines name users.")

    @model_validator(mode="after")
    def _fits(self) -> ServeConfig:
        if self.keys is None and self.host not in LOOPBACK and not self.open:
            raise ValueError(
                f"host is {self.host}, which others can reach, and there are no API keys; give keys (--keys FILE), or say "
                "that anybody may ask (--open)"
            )
        if (self.share > 0) != (self.beside is not None):
            raise ValueError("share and beside go together: a second run, and how many it answers")
        if self.ray is not None and self.workers > 1:
            raise ValueError("workers are processes of this machine; a Ray cluster has replicas")
        return self

    @property
    def shared(self) -> bool:
        """Whether several processes serve as one, so that each must see what the others changed."""
        return self.workers > 1 or self.ray is not None

    @property
    def database_url(self) -> str:
        """Where the state is kept."""
        return self.database or f"sqlite:///{(self.run / 'serve' / 'state.sqlite3').absolute()}"

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Names that a request's Host may have; empty: any."""
        if self.hosts:
            return self.hosts
        return () if self.keys is not None or self.open else LOOPBACK
