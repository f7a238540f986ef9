"""`allmrec recommend RUN --users`: recommendations for many users as Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from allmrec.bulk.ray_engine import RayEngine
from allmrec.bulk.scoring import BulkResult, Engine, in_this_process, recommend_users
from allmrec.bulk.users import read_users
from allmrec.cli.options import announce
from allmrec.core.errors import ConfigError
from allmrec.core.visible import visible
from allmrec.pipeline.run import Run
from allmrec.recommend.request import Request

__all__ = ["Bulk", "recommend_in_bulk"]

# Unknown ids that are shown.
_SHOWN = 5


class EngineName(StrEnum):
    """What computes the blocks."""

    batches = "batches"
    ray = "ray"


@dataclass(frozen=True)
class Bulk:
    """Options of recommending for many users; `with_groups` adds them to the verb."""

    users: Annotated[
        str | None, typer.Option("--users", help="Instead: `all`, or a file of user ids, one a line; needs -o.")
    ] = None
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --users: the folder of Parquet files to write.")
    ] = None
    titles: Annotated[bool, typer.Option("--titles", help="With --users: write titles beside ids.")] = False
    block: Annotated[
        int | None,
        typer.Option(
            "--block",
            min=1,
            help="With --users: users of a file. Default: 512 where the language model is asked, else 16384.",
        ),
    ] = None
    anew: Annotated[bool, typer.Option("--anew", help="With --users: remove what stands in the folder first.")] = False
    engine: Annotated[
        EngineName, typer.Option("--engine", help="With --users: batches in this process, or ray: actors of a cluster.")
    ] = EngineName.batches
    actors: Annotated[
        int | None,
        typer.Option(
            "--actors", min=1, help="With --engine ray: how many hold the model. Default: one a GPU, else one a CPU."
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", help="With --engine ray: of a cluster. Default: one that is found or started here."
        ),
    ] = None

    def check_unused(self) -> None:
        """Refuse options that need --users where it is not given.

        Raises:
            ConfigError: one of them is given.
        """
        given = {"-o": self.output is not None, "--titles": self.titles, "--block": self.block is not None}
        given |= {"--anew": self.anew, "--engine": self.engine is not EngineName.batches}
        for name, there in given.items():
            if there:
                raise ConfigError(f"{name} goes with --users all or --users FILE.")
        self.made_engine()

    def made_engine(self) -> Engine:
        """What computes the blocks.

        Raises:
            ConfigError: options of another engine are given.
        """
        if self.engine is EngineName.ray:
            return RayEngine(self.actors, self.ray_address)
        if self.actors is not None or self.ray_address is not None:
            raise ConfigError("--actors and --ray-address go with --engine ray.")
        return in_this_process


def recommend_in_bulk(run: Run, bulk: Bulk, request: Request, system: str | None) -> None:
    """Write recommendations for many users, and say what was written.

    Args:
        run: a trained run.
        bulk: for whom, and where to.
        request: what is asked for each; its own history does not matter.
        system: of SYSTEMS; None: the run's own.

    Raises:
        ConfigError: no folder is named, or as `recommend_users`.
        DataError: the file of users cannot be used.
    """
    if bulk.output is None:
        raise ConfigError("Where to? --users needs the folder to write to: -o recommendations")
    names = None if bulk.users in (None, "all") else read_users(Path(str(bulk.users)))
    result = recommend_users(
        run,
        bulk.output,
        names,
        k=request.k,
        candidates=request.candidates,
        allow=request.allow,
        deny=request.deny,
        exclude_seen=request.exclude_seen,
        unknown=request.unknown,
        system=system,
        titles=bulk.titles,
        block=bulk.block,
        engine=bulk.made_engine(),
        anew=bulk.anew,
        log=announce,
    )
    _say(result)


def _say(result: BulkResult) -> None:
    if result.skipped:
        more = ", …" if len(result.skipped) > _SHOWN else ""
        shown = ", ".join(map(visible, result.skipped[:_SHOWN]))
        announce(f"Left out, not in the data: {len(result.skipped):,} ids ({shown}{more})")
    if result.repeated:
        announce(f"Named more than once, written once: {result.repeated:,} lines")
    by = ", ".join(f"{visible(name)} {count:,}" for name, count in result.answered_by.items())
    kept = f", {result.found:,} of them there already" if result.found else ""
    announce(
        f"Written: {result.path}, {result.users:,} users in {result.blocks:,} blocks{kept}, {result.seconds:.0f} s. "
        f"Answered by: {by}"
    )
