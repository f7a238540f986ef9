"""A run's folder: its data, its configuration and who holds it; knows no stage's inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from allmrec.core.artifacts import read_json, space_checked, write_json
from allmrec.core.config import parse_config
from allmrec.core.devices import chosen_device
from allmrec.core.distributed import Processes, processes
from allmrec.core.errors import ArtifactError, ConfigError, RunInUseError
from allmrec.core.locking import LOCK_NAME, held
from allmrec.core.resume import Checkpoint
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.stages import FORMAT_VERSION, SYSTEMS_FOLDER, Stage, check_format, tidy

__all__ = ["STAGE_NAMES", "RunFolder"]

STAGE_NAMES = ("pretrain", "reference", "align", "texts", "tune")

# What only a process that holds the run writes.
_HELD = (*STAGE_NAMES, "data", "run.json")


class RunFolder:
    """A run's folder: `run.json`, a copy of the data, and one folder a stage.

    Args:
        path: the folder.
        dataset: its data.
        config: its configuration.
        device: where to train and rank; see `chosen_device`.
        save_every: seconds between two writes of an unfinished stage's resume state.
    """

    def __init__(
        self, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "auto", save_every: float = 60.0
    ) -> None:
        self.path, self.dataset, self.config, self.device = path, dataset, config, chosen_device(device)
        self.save_every = save_every
        self.data_hash = dataset.content_hash
        self.published: dict[str, Any] | None = None

    @classmethod
    def create(
        cls, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "auto", save_every: float = 60.0
    ) -> Self:
        """Make a run of a data set, or take up the one that is there with the configuration given now.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
            RunInUseError: another process is training it.
        """
        run = cls.draft(path, dataset, config, device, save_every)
        run.keep()
        return run

    @classmethod
    def draft(
        cls, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "auto", save_every: float = 60.0
    ) -> Self:
        """The run that `create` would make, with nothing written: what is refused must not change the one that is there.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
        """
        if path.exists() and any(entry.suffix != ".tmp" and entry.name != LOCK_NAME for entry in path.iterdir()):
            if not (path / "run.json").is_file():
                raise ConfigError(f"{path} exists and is no run of allmrec. Give another folder with -o.")
            found = read_json(path / "run.json").get("data_hash")
            if found != dataset.content_hash:
                raise ConfigError(
                    f"{path} is a run of other data ({str(found)[:12]}) than the data given "
                    f"({dataset.content_hash[:12]}). Give another folder with -o."
                )
        return cls(path, dataset, config, device, save_every)

    def keep(self) -> None:
        """Write what `draft` gave: from now on the folder is a run of this configuration.

        Raises:
            RunInUseError: another process is training it.
        """
        here = processes(self.device)
        with here.main_first():
            if here.is_main:
                with space_checked(self.path), held(self.path):
                    self.tidy()
                    self._write_config()
                    # Behind run.json, so that a command that was killed in between finds its own folder and goes on.
                    if not (self.path / "data" / "manifest.json").is_file():
                        self.dataset.save(self.path / "data")

    @classmethod
    def open(cls, path: Path, device: str = "auto", save_every: float = 60.0) -> Self:
        """Open a run's folder.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        if not (path / "run.json").is_file():
            there = "has no run.json" if path.is_dir() else "does not exist"
            raise ArtifactError(f"{path} {there}; expected the folder of a run. Make one: allmrec train DATA -o {path}")
        if any(any(path.glob(where)) for where in (".*.retired", f"{SYSTEMS_FOLDER}/**/.*.retired")):
            # A process was killed while it put a new stage in an old one's place. If one is doing so now, it goes on.
            with suppress(RunInUseError), held(path):
                tidy(path, _HELD)
        about = read_json(path / "run.json")
        check_format(about, path / "run.json")
        settings = about.get("config")
        if not isinstance(settings, dict):
            raise ArtifactError(f"{path / 'run.json'} has no config; restore it, or train again with -o.")
        config = parse_config(RunConfig, settings, str(path / "run.json"))
        dataset = InteractionDataset.load(path / "data")
        published = about.get("published")
        if dataset.content_hash != (about.get("data_hash") if published is None else published.get("catalogue_hash")):
            raise ArtifactError(f"{path / 'data'} is not the data that {path / 'run.json'} names. Train again with -o.")
        run = cls(path, dataset, config, device, save_every)
        run.data_hash, run.published = str(about.get("data_hash")), published
        return run

    @cached_property
    def split(self) -> Split:
        """What stage 2 and the judges use: leave one out, with the held-out targets marked."""
        config = self.config
        return leave_one_out(
            self.dataset, config.held_out_targets, hold_out_users=config.held_out_users, seed=config.seed
        )

    @contextmanager
    def held(self, here: Processes) -> Iterator[None]:
        """Hold the run while it is trained, its folder tidied; the main process does for all."""
        if not here.is_main:
            here.wait()
            yield
            return
        with held(self.path):
            self.tidy()
            here.wait()
            yield

    def tidy(self) -> None:
        """Remove what killed processes left, and bring back a stage whose replacement was cut off; hold the run."""
        tidy(self.path, _HELD)

    def resume(self, stage: Stage) -> Checkpoint:
        """Where a stage that is not finished is kept; what was kept of the same stage with other inputs goes."""
        folder = self.path / ".resume"
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{stage.label}-*.safetensors*"):
            if stage.key[:16] not in old.name:
                old.unlink(missing_ok=True)
        return Checkpoint(folder / f"{stage.label}-{stage.key[:16]}.safetensors", self.save_every)

    def forget(self, stage: Stage) -> None:
        """Remove what was kept of a stage that is now finished."""
        for state in (self.path / ".resume").glob(f"{stage.label}-*"):
            state.unlink()

    def as_json(self) -> dict[str, Any]:
        """What `run.json` says of this run."""
        return {"format": FORMAT_VERSION, "data_hash": self.data_hash, "config": self.config.model_dump(mode="json")}

    def _write_config(self) -> None:
        write_json(self.path / "run.json", self.as_json())
