"""The systems beside A-LLMRec, each a stage of a run: how it is trained, stored and loaded; judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from allmrec.baselines.bm25 import BM25
from allmrec.baselines.ctrl import train_ctrl
from allmrec.baselines.ease import EASE
from allmrec.baselines.fusion import LateFusion, LateFusionLLM
from allmrec.baselines.item_knn import ItemKNN
from allmrec.baselines.morec import train_morec
from allmrec.baselines.recformer import Recformer, longformer_tokenizer
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.baselines.recformer_training import train_recformer
from allmrec.baselines.tallrec import TALLRec, TALLRecConfig, train_tallrec
from allmrec.baselines.text_similarity import TextSimilarity
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import BACKBONES, backbone_kind
from allmrec.core.distributed import Processes
from allmrec.core.errors import DataError
from allmrec.core.training import TrainingLog
from allmrec.data.splitting import Split, leave_one_out
from allmrec.pipeline.allmrec_row import allmrec_row
from allmrec.pipeline.config import RunConfig, for_backbone
from allmrec.pipeline.models import check_encoder, check_language_model
from allmrec.pipeline.run import Announce, Run
from allmrec.pipeline.stages import Stage, StageResult, read_stage
from allmrec.ranking import Recommender
from allmrec.recommend.samples import SampleConfig
from allmrec.text.encoder import EncoderConfig, load_encoder
from allmrec.text.loading import load_parts

__all__ = ["BASELINES", "Baseline", "baseline_stage", "check_baseline", "load_baseline", "train_baseline"]


@dataclass(frozen=True)
class Baseline:
    """One system as a stage.

    Attributes:
        settings: everything of a run's config that decides its result.
        train: trains it; the stage is the one to be written.
        load: makes the system from what `train` stored.
        encoder, llm: whether it needs the sentence encoder or the language model.
        parents: stages of the run, or baselines, that it reads.
        titles: whether it scores titles with the language model, which is slow; A-LLMRec's own way to answer decides it
            for what reads A-LLMRec.
        texts: whether it knows items by their texts alone, and so nothing where there are none.
        note: what a reader of the table must know of how the run trained it.
    """

    settings: Callable[[RunConfig], Mapping[str, Any]]
    train: Callable[[Run, Stage], StageResult]
    load: Callable[[Run, Mapping[str, Tensor]], Recommender]
    encoder: bool = False
    llm: bool = False
    parents: tuple[str, ...] = ()
    titles: Callable[[RunConfig], bool] = lambda config: False
    texts: bool = False
    note: Callable[[RunConfig], str] = lambda config: ""


def baseline_stage(run: Run, name: str) -> Stage:
    """A baseline's stage with everything that decides its result."""
    kind = BASELINES[name]
    inputs = {"data": run.data_hash, "seed": str(run.config.seed)}
    if kind.llm:
        inputs |= {"llm": run.language_model, **run.held_out}
    parents = {parent: baseline_stage(run, parent) if parent in BASELINES else run.stage(_there(run, parent))
               for parent in kind.parents}  # fmt: skip
    settings = dict(kind.settings(run.config))
    if kind.encoder:
        settings["encoder_name"] = run.config.encoder.name
    return Stage(name, settings, inputs, parents, system=name)


def train_baseline(run: Run, name: str, announce: Announce, here: Processes) -> None:
    """Train a baseline and what it reads, where they are not there already; the run is held, and `check_baseline` was
    asked."""
    run.check_unpublished()
    kind = BASELINES[name]
    for parent in kind.parents:
        if parent in BASELINES:
            train_baseline(run, parent, announce, here)
        elif parent == "texts":
            run.complete(run.stage("texts"), run.encode_titles, announce, here)
        else:
            run.train_stages(announce, "tune" if parent == "tune" else "pretrain", here)
    stage = baseline_stage(run, name)
    run.complete(stage, lambda: kind.train(run, stage), announce, here)
    here.wait()


def check_baseline(run: Run, name: str) -> None:
    """Whether the models and the texts are there that a baseline needs.

    Raises:
        ModelNotFoundError: a model is not.
        DataError: no item has a text.
    """
    kind = BASELINES[name]
    catalogue = run.dataset.catalogue
    if kind.texts and not (any(catalogue.titles) or any(catalogue.descriptions)):
        raise DataError(
            f"{name} knows items by their texts, and none of the {run.dataset.n_items:,} items of {run.path} has one. "
            "Prepare the data with titles (allmrec prepare table … --items)."
        )
    if kind.encoder:
        check_encoder(run.config.encoder.name)
    if kind.llm:
        check_language_model(run.config.llm)


def load_baseline(run: Run, name: str) -> Recommender:
    """A baseline as the run trained it.

    Raises:
        ArtifactError: it is not trained, of other inputs, or damaged.
    """
    return BASELINES[name].load(run, read_stage(run.path, baseline_stage(run, name)))


def _there(run: Run, stage: str) -> str:
    """The stage itself; where nothing is held out the CF model that saw everything is the only one."""
    return "pretrain" if stage == "reference" and not run.config.held_out_targets else stage


def _everything(run: Run) -> Split:
    """Nothing held out: what a system that no stage 2 learns from may train on."""
    return leave_one_out(run.dataset)


def _logged(weights: Mapping[str, Tensor], log: TrainingLog, **more: TrainingLog) -> StageResult:
    parts = {name: part.as_json() for name, part in more.items()}
    return StageResult(weights, log.as_json() | parts)


def _texts(run: Run) -> list[str | None]:
    return [text or None for text in run.dataset.catalogue.item_texts(run.config.item_text)]


def _encoder_config(config: RunConfig) -> EncoderConfig:
    return config.encoder.model_copy(update={"tune": config.systems.encoder_tune})


def _encoder_note(config: RunConfig) -> str:
    """Both papers tune all of it."""
    tuned = config.systems.encoder_tune
    if tuned == "full":
        return ""
    return f"its sentence encoder {'frozen' if tuned == 'frozen' else f'tuned in the last {tuned} layers only'}"


def _plain_texts(config: RunConfig) -> dict[str, Any]:
    """What decides the texts and how MoRec and CTRL read them."""
    parts = {"item_text": config.item_text, "encoder": _encoder_config(config)}
    return {name: part.model_dump(mode="json") for name, part in parts.items()}


# --- CF models ---


def _backbone(name: str) -> Baseline:
    def settings(config: RunConfig) -> PretrainConfig:
        return for_backbone(config.pretrain, name)

    def train(run: Run, stage: Stage) -> StageResult:
        model, log = pretrain(_everything(run), settings(run.config), run.config.seed, run.resume(stage), run.device)
        return _logged(model.state_dict(), log)

    def load(run: Run, weights: Mapping[str, Tensor]) -> Recommender:
        kind = backbone_kind(name)
        return BackboneRecommender(kind.load(weights, settings(run.config).model).to(run.device), kind.title)

    return Baseline(lambda config: settings(config).model_dump(mode="json"), train, load)


# --- late fusion ---


def _fusion_parts(run: Run) -> dict[str, Recommender]:
    title = backbone_kind(run.config.pretrain.backbone).title
    return {
        title: BackboneRecommender(run.backbone("reference"), title),
        "text": TextSimilarity(run.likeness(run.config.systems.text_history, centred=True)),
    }


def _fusion_parts_llm(run: Run) -> dict[str, Recommender]:
    run.check_trained()  # before a large language model is loaded for nothing
    return _fusion_parts(run) | {"LLM": allmrec_row(run, run.method, "A-LLMRec")}


def _fusion_config(config: RunConfig) -> dict[str, Any]:
    return config.systems.fusion.model_dump(mode="json") | {"last": config.systems.text_history}


def _fusion_config_llm(config: RunConfig) -> dict[str, Any]:
    """What makes a score of a title's tokens is part of it."""
    normalisation = {"normalisation": config.evaluation.normalisation} if config.method == "score" else {}
    return _fusion_config(config) | normalisation


def _train_fusion(
    kind: type[LateFusion], parts: Callable[[Run], dict[str, Recommender]]
) -> Callable[[Run, Stage], StageResult]:
    def train(run: Run, stage: Stage) -> StageResult:
        fused = kind.fit(parts(run), _everything(run), run.config.seed, run.config.systems.fusion)
        return StageResult(fused.tensors(), {"weights": fused.weights, "trained_parameters": len(fused.weights)})

    return train


# --- no training ---


def _nothing(run: Run, stage: Stage) -> StageResult:
    """All that it needs is there already, or made anew when it is loaded."""
    return StageResult({"items": torch.tensor(run.dataset.n_items)}, {})


def _train_bm25(run: Run, stage: Stage) -> StageResult:
    """That the index could be made is all there is."""
    BM25(run.dataset.catalogue.titles, run.config.systems.bm25)
    return _nothing(run, stage)


# --- trained ---


def _train_morec(run: Run, stage: Stage) -> StageResult:
    config, encoder = run.config, load_encoder(_encoder_config(run.config))
    model, log = train_morec(
        _everything(run), _texts(run), encoder, config.systems.morec, config.seed, run.resume(stage), run.device
    )
    return _logged(model.state_dict(), log)


def _train_ctrl(run: Run, stage: Stage) -> StageResult:
    config, encoder = run.config, load_encoder(_encoder_config(run.config))
    model, contrasted, log = train_ctrl(
        _everything(run), _texts(run), encoder, config.systems.ctrl, config.seed, run.resume(stage), run.device
    )
    return _logged(model.state_dict(), log, contrast=contrasted)


def _sasrec(name: str, settings: Callable[[RunConfig], PretrainConfig]) -> Callable[..., Recommender]:
    """Loads what ends as a plain SASRec."""

    def load(run: Run, weights: Mapping[str, Tensor]) -> Recommender:
        model = backbone_kind("sasrec").load(weights, settings(run.config).model)
        return BackboneRecommender(model.to(run.device), name)

    return load


def _tokens(run: Run) -> ItemTokens:
    """The catalogue in the tokens of the Longformer that is named, or of the encoder where a small one is built."""
    longformer = run.config.systems.recformer.model.longformer
    named = longformer_tokenizer(longformer) if longformer else load_parts(run.config.encoder.name).tokenizer
    return ItemTokens.of(run.dataset.catalogue, named)


def _train_recformer(run: Run, stage: Stage) -> StageResult:
    config = run.config.systems.recformer
    model, logs = train_recformer(
        _everything(run), _tokens(run), config, run.config.seed, run.resume(stage), run.device
    )
    return _logged(model.state_dict(), logs.pop("second"), **logs)


def _load_recformer(run: Run, weights: Mapping[str, Tensor]) -> Recommender:
    model = Recformer.from_arrays(weights, _tokens(run), run.config.systems.recformer.model).to(run.device)
    return BackboneRecommender(model, model.name)


def _tallrec_config(config: RunConfig) -> TALLRecConfig:
    """Prompt and samples of stage 2, adapters and rates of its own."""
    samples = {name: getattr(config.tune, name) for name in SampleConfig.model_fields}
    if config.systems.tallrec_validation_users is not None:
        samples["validation_users"] = config.systems.tallrec_validation_users
    prompt = config.tune.prompt
    return TALLRecConfig(
        **samples,
        lora=config.systems.lora,
        template=prompt.template,
        budget=prompt.budget,
        training=config.systems.tallrec,
    )


def _train_tallrec(run: Run, stage: Stage) -> StageResult:
    titles = run.dataset.catalogue.titles
    model, log = train_tallrec(
        run.split, run.lm, titles, _tallrec_config(run.config), run.config.seed, run.resume(stage)
    )
    return _logged(model.state_dict(), log)


def _load_tallrec(run: Run, weights: Mapping[str, Tensor]) -> Recommender:
    evaluation, titles = run.config.evaluation, run.dataset.catalogue.titles
    batch = max(1, evaluation.batch_size // 2)
    return TALLRec.from_arrays(weights, run.lm, titles, _tallrec_config(run.config), evaluation.normalisation, batch)


def _dumped(part: Callable[[RunConfig], Any]) -> Callable[[RunConfig], Mapping[str, Any]]:
    return lambda config: part(config).model_dump(mode="json")


BASELINES: Mapping[str, Baseline] = {
    "text-similarity": Baseline(
        lambda config: {"last": config.systems.text_history},
        _nothing,
        lambda run, weights: TextSimilarity(run.likeness(run.config.systems.text_history)),
        encoder=True,
        texts=True,
        parents=("texts",),
    ),
    "bm25": Baseline(
        _dumped(lambda config: config.systems.bm25),
        _train_bm25,
        lambda run, weights: BM25(run.dataset.catalogue.titles, run.config.systems.bm25),
        texts=True,
    ),
    "item-knn": Baseline(
        _dumped(lambda config: config.systems.item_knn),
        lambda run, stage: StageResult(ItemKNN.of(_everything(run), run.config.systems.item_knn).tensors(), {}),
        lambda run, weights: ItemKNN.from_tensors(weights, run.config.systems.item_knn.last),
    ),
    "ease": Baseline(
        _dumped(lambda config: config.systems.ease),
        lambda run, stage: StageResult(EASE.of(_everything(run), run.config.systems.ease).tensors(), {}),
        lambda run, weights: EASE.from_tensors(weights),
    ),
    "late-fusion": Baseline(
        _fusion_config,
        _train_fusion(LateFusion, _fusion_parts),
        lambda run, weights: LateFusion.from_tensors(weights, _fusion_parts(run)),
        encoder=True,
        parents=("reference", "texts"),
    ),
    # It is compared with late fusion, so that is trained too, on the same users.
    "late-fusion-llm": Baseline(
        _fusion_config_llm,
        _train_fusion(LateFusionLLM, _fusion_parts_llm),
        lambda run, weights: LateFusionLLM.from_tensors(weights, _fusion_parts_llm(run)),
        encoder=True,
        llm=True,
        parents=("late-fusion", "tune"),
        titles=lambda config: config.method == "score",
    ),
    **{name: _backbone(name) for name in BACKBONES if name != "imported"},
    "morec": Baseline(
        lambda config: config.systems.morec.model_dump(mode="json") | _plain_texts(config),
        _train_morec,
        _sasrec("MoRec", lambda config: config.systems.morec.pretrain),
        encoder=True,
        texts=True,
        note=_encoder_note,
    ),
    "ctrl": Baseline(
        lambda config: config.systems.ctrl.model_dump(mode="json") | _plain_texts(config),
        _train_ctrl,
        _sasrec("CTRL", lambda config: config.systems.ctrl.pretrain),
        encoder=True,
        texts=True,
        note=_encoder_note,
    ),
    "recformer": Baseline(
        _dumped(lambda config: config.systems.recformer), _train_recformer, _load_recformer, encoder=True, texts=True
    ),
    "tallrec": Baseline(_dumped(_tallrec_config), _train_tallrec, _load_tallrec, llm=True, titles=lambda config: True),
}
