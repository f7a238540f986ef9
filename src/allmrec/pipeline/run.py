"""A run: the three stages in order, each done once per set of inputs, and the parts loaded back; knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from allmrec.alignment.align import align
from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.text_side import TextSide
from allmrec.cf.backbone import Backbone
from allmrec.cf.pretrain import pretrain
from allmrec.cf.registry import backbone_kind
from allmrec.core.artifacts import read_json, write_json
from allmrec.core.config import parse_config
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.models import check_encoder, check_language_model
from allmrec.pipeline.stages import (
    Stage,
    StageResult,
    check_stage,
    damaged_files,
    read_stage,
    stage_is_current,
    write_stage,
)
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import tune
from allmrec.text.encoder import load_encoder

__all__ = ["STAGE_NAMES", "Run"]

STAGE_NAMES = ("pretrain", "reference", "align", "tune")

Announce = Callable[[str], None]


class Run:
    """A run's folder: `run.json`, a copy of the data, and one folder a stage.

    Args:
        path: the folder.
        dataset: its data.
        config: its configuration.
        device: where to train and rank.
    """

    def __init__(self, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "cpu") -> None:
        self.path, self.dataset, self.config, self.device = path, dataset, config, device

    @classmethod
    def create(cls, path: Path, dataset: InteractionDataset, config: RunConfig, device: str = "cpu") -> Run:
        """Make a run of a data set, or take up the one that is there with the configuration given now.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
        """
        if path.exists() and any(path.iterdir()):
            if not (path / "run.json").is_file():
                raise ConfigError(f"{path} exists and is no run of allmrec. Give another folder with -o.")
            found = read_json(path / "run.json").get("data_hash")
            if found != dataset.content_hash:
                raise ConfigError(
                    f"{path} is a run of other data ({str(found)[:12]}) than the data given "
                    f"({dataset.content_hash[:12]}). Give another folder with -o."
                )
        run = cls(path, dataset, config, device)
        run._write_config()
        # Behind run.json, so that a command that was killed in between finds its own folder and goes on.
        if not (path / "data" / "manifest.json").is_file():
            dataset.save(path / "data")
        return run

    @classmethod
    def open(cls, path: Path, device: str = "cpu") -> Run:
        """Open a run's folder.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        if not (path / "run.json").is_file():
            there = "has no run.json" if path.is_dir() else "does not exist"
            raise ArtifactError(f"{path} {there}; expected the folder of a run. Make one: allmrec train DATA -o {path}")
        about = read_json(path / "run.json")
        config = parse_config(RunConfig, about.get("config", {}), str(path / "run.json"))
        dataset = InteractionDataset.load(path / "data")
        if dataset.content_hash != about.get("data_hash"):
            raise ArtifactError(f"{path / 'data'} is not the data that {path / 'run.json'} names. Train again with -o.")
        return cls(path, dataset, config, device)

    @cached_property
    def split(self) -> Split:
        """What stage 2 and the judges use: leave one out, with the held-out targets marked."""
        return leave_one_out(self.dataset, hold_out=self.config.held_out_targets)

    def stage(self, name: str) -> Stage:
        """A stage with everything that decides its result."""
        config = self.config
        base = {"data": self.dataset.content_hash, "seed": str(config.seed)}
        if name == "pretrain":
            settings = config.pretrain.model_dump(mode="json")
            return Stage(name, settings, {**base, "held_out_targets": str(config.held_out_targets)})
        if name == "reference":
            return Stage(name, config.pretrain.model_dump(mode="json"), {**base, "held_out_targets": "0"})
        if name == "align":
            parents = {"pretrain": self.stage("pretrain").key}
            settings = {
                part: getattr(config, part).model_dump(mode="json") for part in ("align", "encoder", "item_text")
            }
            return Stage(name, settings, {**base, **parents})
        if name == "tune":
            parents = {"align": self.stage("align").key, "llm": config.llm}
            return Stage(name, config.tune.model_dump(mode="json"), {**base, **parents})
        raise ConfigError(f"There is no stage {name!r}; known are {', '.join(STAGE_NAMES)}.")

    @property
    def stages(self) -> list[str]:
        """The stages that this configuration has, in order."""
        return [n for n in STAGE_NAMES if n != "reference" or self.config.held_out_targets]

    def train(self, announce: Announce = lambda text: None, until: str = "tune") -> None:
        """Run every stage up to `until` that is not there already, made of just these inputs.

        Raises:
            ModelNotFoundError: the encoder or the language model, before anything is trained.
        """
        steps = {
            "pretrain": lambda: self._pretrain("pretrain", self.split),
            "reference": lambda: self._pretrain("reference", leave_one_out(self.dataset)),
            "align": self._align,
            "tune": self._tune,
        }
        if until == "pretrain" and "reference" in self.stages:
            until = "reference"  # a CF model too
        wanted = self.stages[: self.stages.index(until) + 1]
        # A model's name may hold a typing error, and its stage may be hours away.
        if "align" in wanted and not stage_is_current(self.path, self.stage("align")):
            check_encoder(self.config.encoder.name)
        if "tune" in wanted and not stage_is_current(self.path, self.stage("tune")):
            check_language_model(self.config.llm)
        for name in wanted:
            if stage_is_current(self.path, self.stage(name)):
                damaged = damaged_files(self.path, self.stage(name))
                if not damaged:
                    announce(f"{name}: there already, made of the same inputs")
                    continue
                announce(f"{name}: {damaged[0]} is missing or damaged; training it again")
            started = time.monotonic()
            result = steps[name]()
            write_stage(self.path, self.stage(name), result, started)
            self._resume(name).unlink(missing_ok=True)
            announce(f"{name}: done in {time.monotonic() - started:.0f} s{_best(result)}{_given_way(result)}")

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
        return load_language_model(self.config.llm, self.device)

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

    def recommender(self) -> ALLMRec:
        """A-LLMRec as this run trained it: by `select` where that was trained, else by `score`.

        Raises:
            ArtifactError: the run is not trained, or damaged.
        """
        self.check_trained()
        method: Literal["select", "score"] = "select" if self.config.tune.select_weight > 0 else "score"
        evaluation, ranker = self.config.evaluation, self.ranker()
        if evaluation.cold_below:
            ranker.joint = ranker.joint.with_source(self.cold_rows(evaluation.cold_below))
        return ALLMRec(
            self.dataset,
            ranker,
            method,
            normalisation=evaluation.normalisation,
            batch_size=evaluation.batch_size,
            retrieve=self.config.retrieve,
            prompt_candidates=self.config.tune.candidates,
            text_side=self.text_side,
        )

    def cold_rows(self, below: int) -> Bool[Tensor, " rows"]:
        """Which items have fewer training interactions than `below`, as the CF model inside A-LLMRec saw them."""
        rows: Bool[Tensor, " rows"] = torch.from_numpy(self.split.train_counts() < below)
        rows[0] = False
        return rows

    def text_side(self) -> TextSide:
        """The text half of stage 1 with its encoder, for items that come later."""
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

    def _resume(self, name: str) -> Path:
        folder = self.path / ".resume"
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{name}-*.safetensors"):
            if self.stage(name).key[:16] not in old.name:
                old.unlink()
        return folder / f"{name}-{self.stage(name).key[:16]}.safetensors"

    def _write_config(self) -> None:
        write_json(
            self.path / "run.json",
            {"data_hash": self.dataset.content_hash, "config": self.config.model_dump(mode="json")},
        )


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
