"""A run: the three stages in order, each done once per set of inputs, and the parts loaded back; knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from allmrec.alignment.align import align
from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.text_side import TextSide
from allmrec.cf.backbone import Backbone
from allmrec.cf.pretrain import pretrain
from allmrec.cf.registry import backbone_kind
from allmrec.core.artifacts import read_json, read_tensors, space_checked, write_json
from allmrec.core.config import parse_config
from allmrec.core.distributed import Processes, processes
from allmrec.core.errors import ArtifactError, ConfigError, RunInUseError
from allmrec.core.locking import LOCK_NAME, held
from allmrec.core.resume import Checkpoint
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.migration import FORMAT_VERSION, upgraded
from allmrec.pipeline.models import check_encoder, check_language_model
from allmrec.pipeline.stages import (
    Stage,
    StageResult,
    check_format,
    check_stage,
    damaged_files,
    read_stage,
    stage_is_current,
    tidy,
    write_stage,
)
from allmrec.recommend.allmrec import ALLMRec, NewItem
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import tune
from allmrec.text.encoder import load_encoder
from allmrec.text.loading import load_parts

__all__ = ["STAGE_NAMES", "Run", "TrainedALLMRec"]

STAGE_NAMES = ("pretrain", "reference", "align", "tune")

# What only a process that holds the run writes.
_HELD = (*STAGE_NAMES, "data", "run.json")

Announce = Callable[[str], None]


class Run:
    """A run's folder: `run.json`, a copy of the data, and one folder a stage.

    Args:
        path: the folder.
        dataset: its data.
        config: its configuration.
        device: where to train and rank.
        save_every: seconds between two writes of an unfinished stage's resume state.
    """

    def __init__(
        self, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "cpu", save_every: float = 60.0
    ) -> None:
        self.path, self.dataset, self.config, self.device = path, dataset, config, device
        self.save_every = save_every
        self.data_hash = dataset.content_hash
        self._published: dict[str, Any] | None = None

    @classmethod
    def create(
        cls, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "cpu", save_every: float = 60.0
    ) -> Run:
        """Make a run of a data set, or take up the one that is there with the configuration given now.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
            RunInUseError: another process is training it.
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
        run = cls(path, dataset, config, device, save_every)
        here = processes(device)
        with here.main_first():
            if here.is_main:
                with space_checked(path), held(path):
                    tidy(path, _HELD)
                    run._write_config()
                    # Behind run.json, so that a command that was killed in between finds its own folder and goes on.
                    if not (path / "data" / "manifest.json").is_file():
                        dataset.save(path / "data")
        return run

    @classmethod
    def open(cls, path: Path, device: str = "cpu", save_every: float = 60.0) -> Run:
        """Open a run's folder, one of an earlier format too, which is left as it is.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        if not (path / "run.json").is_file():
            there = "has no run.json" if path.is_dir() else "does not exist"
            raise ArtifactError(f"{path} {there}; expected the folder of a run. Make one: allmrec train DATA -o {path}")
        if any(path.glob(".*.retired")):
            # A process was killed while it put a new stage in an old one's place. If one is doing so now, it goes on.
            with suppress(RunInUseError), held(path):
                tidy(path, _HELD)
        about = read_json(path / "run.json")
        found, settings = check_format(about, path / "run.json"), about.get("config")
        if not isinstance(settings, dict):
            raise ArtifactError(f"{path / 'run.json'} has no config; restore it, or train again with -o.")
        config = parse_config(RunConfig, upgraded(settings, found), str(path / "run.json"))
        dataset = InteractionDataset.load(path / "data")
        published = about.get("published")
        if dataset.content_hash != (about.get("data_hash") if published is None else published.get("catalogue_hash")):
            raise ArtifactError(f"{path / 'data'} is not the data that {path / 'run.json'} names. Train again with -o.")
        run = cls(path, dataset, config, device, save_every)
        run.data_hash, run._published = str(about.get("data_hash")), published
        return run

    @cached_property
    def split(self) -> Split:
        """What stage 2 and the judges use: leave one out, with the held-out targets marked."""
        return leave_one_out(self.dataset, hold_out=self.config.held_out_targets)

    def stage(self, name: str) -> Stage:
        """A stage with everything that decides its result."""
        config = self.config
        base = {"data": self.data_hash, "seed": str(config.seed)}
        if name == "pretrain":
            settings = config.pretrain.model_dump(mode="json")
            inputs = {**base, "held_out_targets": str(config.held_out_targets)}
            return Stage(name, settings, inputs, section="pretrain")
        if name == "reference":
            settings = config.pretrain.model_dump(mode="json")
            return Stage(name, settings, {**base, "held_out_targets": "0"}, section="pretrain")
        if name == "align":
            settings = {
                part: getattr(config, part).model_dump(mode="json") for part in ("align", "encoder", "item_text")
            }
            return Stage(name, settings, base, {"pretrain": self.stage("pretrain")})
        if name == "tune":
            settings = config.tune.model_dump(mode="json")
            # Devices differ in what `auto` is and count as little as ever; a precision that was asked for counts.
            held = "" if config.llm_precision == "auto" else f" in {config.llm_precision}"
            return Stage(name, settings, {**base, "llm": config.llm + held}, {"align": self.stage("align")}, "tune")
        raise ConfigError(f"There is no stage {name!r}; known are {', '.join(STAGE_NAMES)}.")

    @property
    def stages(self) -> list[str]:
        """The stages that this configuration has, in order."""
        return [n for n in STAGE_NAMES if n != "reference" or self.config.held_out_targets]

    def train(self, announce: Announce = lambda text: None, until: str = "tune") -> None:
        """Run every stage up to `until` that is not there already, made of just these inputs.

        Raises:
            ModelNotFoundError: the encoder or the language model, before anything is trained.
            RunInUseError: another process is training the run.
            NoSpaceError: the disk is full; what is finished is kept.
            ArtifactError: a stage has a newer format.
        """
        here = processes(self.device)
        with space_checked(self.path), self._held(here):
            self._train(announce, until, here)

    @contextmanager
    def _held(self, here: Processes) -> Iterator[None]:
        """Hold the run while it is trained, its folder tidied; the main process does for all."""
        if not here.is_main:
            here.wait()
            yield
            return
        with held(self.path):
            tidy(self.path, _HELD)
            here.wait()
            yield

    def _train(self, announce: Announce, until: str, here: Processes) -> None:
        steps = {
            "pretrain": lambda: self._pretrain("pretrain", self.split),
            "reference": lambda: self._pretrain("reference", leave_one_out(self.dataset)),
            "align": self._align,
            "tune": self._tune,
        }
        if self._published is not None:
            raise ConfigError(f"{self.path} is a saved recommender, made to be used and not to be trained further.")
        if until == "pretrain" and "reference" in self.stages:
            until = "reference"  # a CF model too
        wanted = self.stages[: self.stages.index(until) + 1]
        # A model's name may hold a typing error, and its stage may be hours away.
        if "align" in wanted and not stage_is_current(self.path, self.stage("align")):
            check_encoder(self.config.encoder.name)
        if "tune" in wanted and not stage_is_current(self.path, self.stage("tune")):
            check_language_model(self.config.llm)
        for name in wanted:
            # The others wait here until the main process has written the stage before.
            current, damaged = here.from_main(self._state(name))
            if current and not damaged:
                announce(f"{name}: there already, made of the same inputs")
                continue
            if damaged:
                announce(f"{name}: {damaged[0]} is missing or damaged; training it again")
            started = time.monotonic()
            result = steps[name]()
            if here.is_main:
                write_stage(self.path, self.stage(name), result, started)
                for state in (self.path / ".resume").glob(f"{name}-*"):
                    state.unlink()
            announce(f"{name}: done in {time.monotonic() - started:.0f} s{_best(result)}{_given_way(result)}")
        here.wait()

    def _state(self, name: str) -> tuple[bool, list[Path]]:
        """Whether a stage stands there, made of these inputs, and which of its files are damaged."""
        current = stage_is_current(self.path, self.stage(name))
        return current, damaged_files(self.path, self.stage(name)) if current else []

    def check_trained(self) -> None:
        """Make sure that every stage can be read, before a large language model is loaded for nothing.

        Raises:
            ArtifactError: a stage is missing, of other inputs, or damaged.
        """
        for name in self.stages:
            check_stage(self.path, self.stage(name))

    def backbone(self, stage: str = "pretrain") -> Backbone:
        """The trained CF model; `reference` is the one that saw the held-out targets too."""
        kind = backbone_kind(self.config.pretrain.backbone)
        if stage == "reference" and not self.config.held_out_targets:
            stage = "pretrain"
        backbone = kind.load(read_stage(self.path, self.stage(stage)), self.config.pretrain.model)
        return backbone.to(self.device)

    def joint(self) -> JointItemTable:
        """Joint vectors of all items, as stage 1 left them."""
        return JointItemTable.from_tensors(read_stage(self.path, self.stage("align"), "joint"))

    @cached_property
    def lm(self) -> TransformersLM:
        """The frozen language model."""
        lm = load_language_model(self.config.llm, self.device, self.config.llm_precision)
        if self._published is not None:
            self._check_frozen("llm", f"language model {self.config.llm!r}", fingerprint(lm.frozen.module))
        return lm

    def encoder_fingerprint(self) -> str:
        """Of the sentence encoder as it comes, before stage 1 tuned any of it."""
        return fingerprint(load_parts(self.config.encoder.name).model)

    def _check_frozen(self, part: str, words: str, found: str) -> None:
        if self._published is not None and self._published["frozen"][part]["fingerprint"] != found:
            raise ArtifactError(
                f"The {words} here has other weights than the one that {self.path} was trained with. Get that version, "
                "or train again with this one."
            )

    def ranker(self, trained: bool = True) -> PromptedRanker:
        """Stage 2 around the frozen parts.

        Args:
            trained: with its trained weights; else as it is initialised.
        """
        ranker = PromptedRanker(
            self.lm,
            self.backbone(),
            self.joint(),
            self.dataset.catalogue.titles,
            self.config.tune.prompt,
            self.config.seed,
            self.backbone("reference") if trained else None,
        )
        if trained:
            ranker.load_state_dict(read_stage(self.path, self.stage("tune")))
        return ranker.to(self.device)

    def recommender(self) -> TrainedALLMRec:
        """A-LLMRec as this run trained it: by `select` where that was trained, else by `score`.

        Raises:
            ArtifactError: the run is not trained, or damaged.
        """
        self.check_trained()
        method: Literal["select", "score"] = "select" if self.config.tune.select_weight > 0 else "score"
        evaluation, ranker = self.config.evaluation, self.ranker()
        if evaluation.cold_below:
            ranker.joint = ranker.joint.with_source(self.cold_rows(evaluation.cold_below))
        model = TrainedALLMRec(
            self.dataset,
            ranker,
            method,
            normalisation=evaluation.normalisation,
            batch_size=evaluation.batch_size,
            retrieve=self.config.retrieve,
            prompt_candidates=self.config.tune.candidates,
            text_side=self.text_side,
        )
        model.run = self
        if self._published is not None and self._published["added"]:
            kept = read_tensors(self.path / "published.safetensors")
            rows = [NewItem.model_validate(item) for item in self._published["added"]]
            model.take_up(rows, kept["added_text"], kept["added_has_text"])
        return model

    def train_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """Training interactions per item number, as the CF model inside A-LLMRec saw them."""
        if self._published is None:
            return self.split.train_counts()
        return read_tensors(self.path / "published.safetensors")["train_counts"].numpy()

    def cold_rows(self, below: int) -> Bool[Tensor, " rows"]:
        """Which items have fewer training interactions than `below`."""
        rows: Bool[Tensor, " rows"] = torch.from_numpy(self.train_counts() < below)
        rows[0] = False
        return rows

    def text_side(self) -> TextSide:
        """The text half of stage 1 with its encoder, for items that come later."""
        if self._published is not None:
            self._check_frozen("encoder", f"sentence encoder {self.config.encoder.name!r}", self.encoder_fingerprint())
        encoder = load_encoder(self.config.encoder)
        alignment = Alignment(self.backbone().width, encoder, self.config.align.joint_width)
        alignment.load_state_dict(read_stage(self.path, self.stage("align")))
        return TextSide(alignment.to(self.device), encoder, self.config.item_text)

    def _pretrain(self, name: str, split: Split) -> StageResult:
        backbone, log = pretrain(split, self.config.pretrain, self.config.seed, self._resume(name), self.device)
        return StageResult(backbone.state_dict(), log.as_json())

    def _align(self) -> StageResult:
        encoder = load_encoder(self.config.encoder)
        texts = [text or None for text in self.dataset.catalogue.item_texts(self.config.item_text)]
        alignment, joint, log = align(
            self.split,
            self.backbone(),
            texts,
            encoder,
            self.config.align,
            self.config.seed,
            self._resume("align"),
            self.device,
        )
        return StageResult(alignment.state_dict(), log.as_json(), {"joint": joint.tensors()})

    def _tune(self) -> StageResult:
        ranker = self.ranker(trained=False)
        config = self.config.tune.model_copy(
            update={"training": self.config.tune.training.model_copy(update={"seed": self.config.seed})}
        )
        log = tune(ranker, self.split, config, self._resume("tune"))
        budget = {
            "title_tokens": config.prompt.budget.title_tokens,
            "cut_titles": ranker.builder.titles.cut,
            "dropped_history": ranker.builder.dropped_history,
        }
        return StageResult(ranker.state_dict(), log.as_json() | {"budget": budget})

    def _resume(self, name: str) -> Checkpoint:
        folder = self.path / ".resume"
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{name}-*.safetensors"):
            if self.stage(name).key[:16] not in old.name:
                old.unlink(missing_ok=True)
        return Checkpoint(folder / f"{name}-{self.stage(name).key[:16]}.safetensors", self.save_every)

    def as_json(self) -> dict[str, Any]:
        """What `run.json` says of this run."""
        return {"format": FORMAT_VERSION, "data_hash": self.data_hash, "config": self.config.model_dump(mode="json")}

    def _write_config(self) -> None:
        write_json(self.path / "run.json", self.as_json())


class TrainedALLMRec(ALLMRec):
    """A-LLMRec as a run trained it. It can be given away and taken up again, see `allmrec.pipeline.pretrained`."""

    run: Run

    def save_pretrained(self, folder: Path | str, interactions: bool = False) -> None:
        """Write a folder for others to use; see `pretrained.save_pretrained`."""
        from allmrec.pipeline import pretrained  # it needs this module

        pretrained.save_pretrained(self, folder, interactions)

    def push_to_hub(
        self, name: str, *, interactions: bool = False, private: bool = True, token: str | None = None
    ) -> str:
        """Publish on the hub; see `pretrained.push_to_hub`."""
        from allmrec.pipeline import pretrained  # it needs this module

        return pretrained.push_to_hub(self, name, interactions=interactions, private=private, token=token)

    @classmethod
    def from_pretrained(cls, name: Path | str, device: str = "cpu", revision: str | None = None) -> TrainedALLMRec:
        """Read a saved recommender or a run, from a folder or the hub; see `pretrained.from_pretrained`."""
        from allmrec.pipeline import pretrained  # it needs this module

        return pretrained.from_pretrained(name, device, revision)


def _given_way(result: StageResult) -> str:
    """What the prompt's budget had no room for, in words."""
    budget = result.log.get("budget", {})
    parts = []
    if budget.get("cut_titles"):
        parts.append(f"{budget['cut_titles']:,} titles cut to {budget['title_tokens']} tokens")
    if budget.get("dropped_history"):
        parts.append(f"{budget['dropped_history']:,} history items dropped")
    return f"; prompts: {', '.join(parts)}" if parts else ""


def _best(result: StageResult) -> str:
    """The best validation figure of a stage, in words."""
    value, records = result.log.get("best_value"), result.log.get("records")
    if value is None or not records:
        return ""
    names = [name for name in records[-1] if name not in ("step", "epoch") and not name.startswith("loss/")]
    return (
        f", best {names[0].removeprefix('validation/')} {value:.4f} at step {result.log['best_step']}" if names else ""
    )
