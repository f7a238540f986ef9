"""A run: the stages in order, each done once per set of inputs, and the parts loaded back; knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

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
from allmrec.core.artifacts import read_tensors, space_checked
from allmrec.core.distributed import Processes, processes
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.log import logger
from allmrec.core.seeding import seeded_torch
from allmrec.data.splitting import Split, leave_one_out
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.folder import STAGE_NAMES, RunFolder
from allmrec.pipeline.models import check_encoder, check_language_model
from allmrec.pipeline.outcome import outcome
from allmrec.pipeline.pretrained import TrainedALLMRec
from allmrec.pipeline.stages import (
    Stage,
    StageResult,
    check_stage,
    damaged_files,
    read_stage,
    stage_is_current,
    write_stage,
)
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import tune
from allmrec.text.bank import TextBank
from allmrec.text.encoder import TransformerEncoder, load_encoder
from allmrec.text.likeness import TextLikeness
from allmrec.text.loading import load_parts

__all__ = ["STAGE_NAMES", "Announce", "Run"]

Announce = Callable[[str], None]


class Run(RunFolder):
    """A run: what is trained, in which order, and the parts loaded back.

    A run may hold variants of A-LLMRec (`variant`): runs in the same folder with some fields changed. Stages that a
    variant has in common with the run itself stand where the run has them and are trained once.
    """

    # Of a variant: its name, and the run that it is a variant of.
    system: str = ""
    base: Run | None = None

    def variant(self, name: str, config: RunConfig) -> Run:
        """The same run with another configuration, what differs kept under the variant's name."""
        run = Run(self.path, self.dataset, config, self.device, self.save_every)
        run.data_hash, run.published = self.data_hash, self.published
        run.system, run.base = name, self
        run.__dict__.update({part: self.__dict__[part] for part in ("split",) if part in self.__dict__})
        return run

    def stage(self, name: str) -> Stage:
        """A stage with everything that decides its result.

        Raises:
            ConfigError: there is no such stage.
        """
        stage = self._stage(name)
        if self.base is None or self.base._stage(name).key == stage.key:
            return stage
        return replace(stage, system=self.system)

    def _stage(self, name: str) -> Stage:
        config = self.config
        base = {"data": self.data_hash, "seed": str(config.seed)}
        if name == "pretrain":
            settings = config.pretrain.model_dump(mode="json")
            inputs = {**base, **self.held_out}
            return Stage(name, settings, inputs)
        if name == "reference":
            settings = config.pretrain.model_dump(mode="json")
            return Stage(name, settings, {**base, "held_out_targets": "0"})
        if name == "align":
            settings = {
                part: getattr(config, part).model_dump(mode="json") for part in ("align", "encoder", "item_text")
            }
            return Stage(name, settings, base, {"pretrain": self._stage("pretrain")})
        if name == "texts":
            settings = {"encoder": config.encoder.untouched.model_dump(mode="json")}
            return Stage(name, settings, {"data": self.data_hash})
        if name == "tune":
            settings = config.tune.model_dump(mode="json")
            parents = ["align" if config.tune.items == "joint" else "pretrain"]
            if config.tune.prompt.pointer.reads_texts:
                parents.append("texts")
            inputs = {**base, "llm": self.language_model}
            return Stage(name, settings, inputs, {parent: self._stage(parent) for parent in parents})
        raise ConfigError(f"There is no stage {name!r}; known are {', '.join(STAGE_NAMES)}.")

    @property
    def held_out(self) -> dict[str, str]:
        """What is withheld from the CF model, as it decides a stage's result."""
        targets, users = self.config.held_out_targets, self.config.held_out_users
        found = {"held_out_targets": str(targets)}
        return found if users is None or not targets else found | {"held_out_users": str(users)}

    @property
    def language_model(self) -> str:
        """The language model as it decides a stage's result: its name, and the precision where one was asked for.

        Devices differ in what `auto` is, and count as little as ever.
        """
        config = self.config
        return config.llm if config.llm_precision == "auto" else f"{config.llm} in {config.llm_precision}"

    @property
    def stages(self) -> list[str]:
        """The stages that this configuration has, in order."""
        left_out = set()
        if not self.config.held_out_targets:
            left_out.add("reference")
        if self.config.tune.items != "joint":
            left_out.add("align")
        if not self.config.tune.prompt.pointer.reads_texts:
            left_out.add("texts")
        return [name for name in STAGE_NAMES if name not in left_out]

    def train(self, announce: Announce = logger.info, until: str = "tune") -> None:
        """Run every stage up to `until` that is not there already, made of just these inputs.

        Raises:
            ModelNotFoundError: the encoder or the language model, before anything is trained.
            RunInUseError: another process is training the run.
            NoSpaceError: the disk is full; what is finished is kept.
            ArtifactError: a stage has a newer format.
        """
        here = processes(self.device)
        with space_checked(self.path), self.held(here):
            self.train_stages(announce, until, here)

    def train_stages(self, announce: Announce, until: str, here: Processes) -> None:
        """`train` for somebody who holds the run already."""
        self.check_unpublished()
        steps = {
            "pretrain": lambda: self._pretrain("pretrain", self.split),
            "reference": lambda: self._pretrain("reference", leave_one_out(self.dataset)),
            "align": self._align,
            "texts": self.encode_titles,
            "tune": self._tune,
        }
        if until == "pretrain" and "reference" in self.stages:
            until = "reference"  # a CF model too
        for name in self.check_models(until):
            self.complete(self.stage(name), steps[name], announce, here)
        here.wait()

    def check_models(self, until: str) -> list[str]:
        """Whether the models are there that the stages up to `until` need: their stages may be hours away.

        Returns:
            Those stages.

        Raises:
            ConfigError: the configuration has no such stage.
            ModelNotFoundError: the encoder or the language model.
        """
        if until not in self.stages:
            raise ConfigError(f"{self.path} has no stage {until!r} with tune.items = {self.config.tune.items!r}.")
        wanted = self.stages[: self.stages.index(until) + 1]
        for name in ("align", "texts"):
            if name in wanted and not stage_is_current(self.path, self.stage(name)):
                check_encoder(self.config.encoder.name)
        if "tune" in wanted and not stage_is_current(self.path, self.stage("tune")):
            check_language_model(self.config.llm)
        return wanted

    def complete(self, stage: Stage, work: Callable[[], StageResult], announce: Announce, here: Processes) -> None:
        """Do one stage, unless it is there already; the run is held."""
        # The others wait here until the main process has written the stage before.
        current, damaged = here.from_main(self._state(stage))
        if current and not damaged:
            announce(f"{stage.label}: there already, made of the same inputs")
            return
        if damaged:
            announce(f"{stage.label}: {damaged[0]} is missing or damaged; training it again")
        started = time.monotonic()
        result = work()
        if here.is_main:
            write_stage(self.path, stage, result, started)
            self.forget(stage)
        announce(f"{stage.label}: done in {time.monotonic() - started:.0f} s{outcome(result)}")

    def _state(self, stage: Stage) -> tuple[bool, list[Path]]:
        """Whether a stage stands there, made of these inputs, and which of its files are damaged."""
        current = stage_is_current(self.path, stage)
        return current, damaged_files(self.path, stage) if current else []

    def check_unpublished(self) -> None:
        """Make sure that this is a run and not a saved recommender.

        Raises:
            ConfigError: it cannot be trained further.
        """
        if self.published is not None:
            raise ConfigError(f"{self.path} is a saved recommender, made to be used and not to be trained further.")

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
        """Vectors of all items for stage 2: as stage 1 left them, or what `tune.items` puts in their place."""
        if self.config.tune.items == "joint":
            return JointItemTable.from_tensors(read_stage(self.path, self.stage("align"), "joint"))
        vectors = self.backbone().item_vectors().detach().cpu()
        if self.config.tune.items == "random":
            with seeded_torch(self.config.seed, "random joint vectors"):
                vectors = torch.randn(len(vectors), self.config.align.joint_width)
        none = torch.zeros(len(vectors), dtype=torch.bool)
        return JointItemTable.of(vectors, torch.zeros_like(vectors), none)

    def likeness(self, last: int = 10, centred: bool = False) -> TextLikeness:
        """Of titles, by the untouched sentence encoder; see `TextLikeness`."""
        return TextLikeness.from_tensors(read_stage(self.path, self.stage("texts")), last, centred)

    @cached_property
    def lm(self) -> TransformersLM:
        """The frozen language model; one for a run and all its variants."""
        if self.base is not None and self.base.language_model == self.language_model:
            return self.base.lm
        lm = load_language_model(self.config.llm, self.device, self.config.llm_precision)
        if self.published is not None:
            self._check_frozen("llm", f"language model {self.config.llm!r}", fingerprint(lm.frozen.module))
        return lm

    def encoder_fingerprint(self) -> str:
        """Of the sentence encoder as it comes, before stage 1 tuned any of it."""
        return fingerprint(load_parts(self.config.encoder.name).model)

    def _check_frozen(self, part: str, words: str, found: str) -> None:
        if self.published is not None and self.published["frozen"][part]["fingerprint"] != found:
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
            self.known_counts() if trained else self.train_counts(),
            self.likeness(centred=True) if self.config.tune.prompt.pointer.reads_texts else None,
        )
        if trained:
            ranker.load_state_dict(read_stage(self.path, self.stage("tune")))
        return ranker.to(self.device)

    @property
    def method(self) -> Literal["select", "score"]:
        """How its language model answers; see `RunConfig.method`."""
        return self.config.method

    def recommender(self) -> TrainedALLMRec:
        """A-LLMRec as this run trained it, answering by `method`.

        Raises:
            ArtifactError: the run is not trained, or damaged.
        """
        self.check_trained()
        evaluation, ranker = self.config.evaluation, self.ranker()
        if evaluation.cold_below:
            ranker.joint = ranker.joint.with_source(self.cold_rows(evaluation.cold_below))
        model = TrainedALLMRec(
            self.dataset,
            ranker,
            self.method,
            normalisation=evaluation.normalisation,
            batch_size=evaluation.batch_size,
            retrieve=self.config.retrieve,
            prompt_candidates=self.config.tune.candidates,
            text_side=self.text_side,
        )
        model.run = self
        model.take_up_published()
        return model

    def train_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """Training interactions per item number, as the CF model inside A-LLMRec saw them."""
        if self.published is None:
            return self.split.train_counts()
        return read_tensors(self.path / "published.safetensors")["train_counts"].numpy()

    def known_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """The same with the items held out from that CF model: what the one in use knows."""
        if self.published is None:
            return leave_one_out(self.dataset).train_counts()
        kept = read_tensors(self.path / "published.safetensors")
        # What was saved before there was such a count reads none.
        return kept.get("known_counts", kept["train_counts"]).numpy()

    def cold_rows(self, below: int) -> Bool[Tensor, " rows"]:
        """Which items have fewer training interactions than `below`."""
        rows: Bool[Tensor, " rows"] = torch.from_numpy(self.train_counts() < below)
        rows[0] = False
        return rows

    def text_side(self) -> TextSide:
        """The text half of stage 1 with its encoder, for items that come later."""
        if self.published is not None:
            self._check_frozen("encoder", f"sentence encoder {self.config.encoder.name!r}", self.encoder_fingerprint())
        encoder = load_encoder(self.config.encoder)
        alignment = Alignment(self.backbone().width, encoder, self.config.align.joint_width)
        alignment.load_state_dict(read_stage(self.path, self.stage("align")))
        return TextSide(alignment.to(self.device), encoder, self.config.item_text, self._untouched_encoder)

    def _untouched_encoder(self) -> TransformerEncoder:
        return load_encoder(self.config.encoder.untouched).to(self.device)

    def _pretrain(self, name: str, split: Split) -> StageResult:
        backbone, log = pretrain(
            split, self.config.pretrain, self.config.seed, self.resume(self.stage(name)), self.device
        )
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
            self.resume(self.stage("align")),
            self.device,
        )
        return StageResult(alignment.state_dict(), log.as_json(), {"joint": joint.tensors()})

    def encode_titles(self) -> StageResult:
        """The work of `texts`: the untouched sentence encoder's vector of each title."""
        bank = TextBank(self._untouched_encoder(), self.dataset.catalogue.titles, device=self.device)
        vectors = bank.all_vectors(description="encode titles").cpu()
        return StageResult({"vectors": vectors, "present": torch.from_numpy(bank.present)}, {})

    def _tune(self) -> StageResult:
        ranker = self.ranker(trained=False)
        config = self.config.tune.model_copy(
            update={"training": self.config.tune.training.model_copy(update={"seed": self.config.seed})}
        )
        log = tune(ranker, self.split, config, self.resume(self.stage("tune")))
        budget = {
            "title_tokens": config.prompt.budget.title_tokens,
            "cut_titles": ranker.builder.titles.cut,
            "dropped_history": ranker.builder.dropped_history,
        }
        return StageResult(ranker.state_dict(), log.as_json() | {"budget": budget})
