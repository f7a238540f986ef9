"""The systems beside A-LLMRec as entries of the table: how each is trained, stored and opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from allmrec.baselines.bm25 import BM25, BM25Config
from allmrec.baselines.ctrl import CTRLConfig, train_ctrl
from allmrec.baselines.ease import EASE, EASEConfig
from allmrec.baselines.fusion import FusionConfig, LateFusion, LateFusionLLM
from allmrec.baselines.item_knn import ItemKNN, ItemKNNConfig
from allmrec.baselines.morec import MoRecConfig, train_morec
from allmrec.baselines.recformer import Recformer, longformer_tokenizer
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.baselines.recformer_training import RecformerTrainingConfig, train_recformer
from allmrec.baselines.tallrec import TALLRec, TALLRecConfig, train_tallrec
from allmrec.baselines.text_similarity import TextSimilarity
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.core.config import Config
from allmrec.core.tensors import expected
from allmrec.core.training import TrainingLog
from allmrec.pipeline.run import Run, StageKind
from allmrec.ranking import Ranker
from allmrec.recipes.config import RunConfig, for_backbone
from allmrec.recommend.samples import SampleConfig
from allmrec.stages.cf import cf_in_use, everything
from allmrec.stages.frozen import encoder_parts, language_model, sentence_encoder
from allmrec.stages.texts import TEXTS, item_texts, text_encoder, title_similarity
from allmrec.stages.tune import TUNE
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.answers import answering, by_scores
from allmrec.systems.kinds import Settings, SystemKind
from allmrec.systems.towers import TEXT_TOWER, TEXT_TOWER_TITLE, text_tower
from allmrec.systems.trained import logged, own_backbone, trained_system
from allmrec.text.encoder import EncoderConfig

__all__ = ["BASELINES", "TRAINED_BASELINES", "TextSimilarityConfig", "encoder_note"]


class TextSimilarityConfig(Config):
    """How titles are compared with a history's."""

    max_history: int = Field(10, ge=1, description="Most recent items of the history that are compared.")


def _run_encoder(config: RunConfig, settings: Config) -> EncoderConfig:
    return config.encoder


def _text_encoder(config: RunConfig, settings: Config) -> EncoderConfig | None:
    return text_encoder(config)


# --- late fusion ---

# Both rows are fitted on the same users with the same settings.
_FUSION = Settings("late-fusion", FusionConfig)


def _fusion_parts(run: Run, settings: FusionConfig) -> dict[str, Ranker]:
    cf = own_backbone(run)
    parts: dict[str, Ranker] = {
        cf.name: cf,
        "text": TextSimilarity(title_similarity(run, settings.max_history, centred=True)),
    }
    if settings.text_tower:
        parts[TEXT_TOWER_TITLE] = BackboneRecommender(text_tower(run), TEXT_TOWER_TITLE)
    return parts


def _fusion_parents(config: RunConfig) -> tuple[StageKind, ...]:
    tower = TEXT_TOWER.stages(config) if _FUSION.of(config).text_tower else ()
    return (cf_in_use(config), TEXTS, *tower)


def _fusion_parts_llm(run: Run, settings: FusionConfig) -> dict[str, Ranker]:
    llm = answering(run, by_scores(run, run.method, "A-LLMRec")).ranker
    return _fusion_parts(run, settings) | {"LLM": llm}


def _normalisation(config: RunConfig) -> dict[str, Any]:
    """What makes a score of a title's tokens."""
    return {"normalisation": config.answer.normalisation} if config.method == "score" else {}


def _train_fusion(
    kind: type[LateFusion], parts: Callable[[Run, FusionConfig], dict[str, Ranker]]
) -> Callable[[Run, Stage, FusionConfig], StageResult]:
    def train(run: Run, stage: Stage, settings: FusionConfig) -> StageResult:
        fused = kind.fit(parts(run, settings), everything(run), run.config.seed, settings)
        return StageResult(fused.tensors(), {"weights": fused.weights, "trained_parameters": len(fused.weights)})

    return train


def _rows(
    run: Run, weights: Mapping[str, Tensor], name: str, kind: Literal["float", "int"], more: int = 0, *others: None
) -> Mapping[str, Tensor]:
    """The tensors, where one has a row for each item number, and `more`."""
    return expected(weights, {name: (kind, (run.dataset.n_items + 1 + more, *others))})


# --- no training ---


def _nothing(run: Run, stage: Stage, settings: Config) -> StageResult:
    """All that it needs is there already, or made anew when it is loaded."""
    return StageResult({"items": torch.tensor(run.dataset.n_items)}, {})


def _train_bm25(run: Run, stage: Stage, settings: BM25Config) -> StageResult:
    """That the index could be made is all there is."""
    BM25(run.dataset.catalogue.titles, settings)
    return _nothing(run, stage, settings)


# --- SASRec on encoded texts: MoRec and CTRL ---


def encoder_note(settings: MoRecConfig | CTRLConfig) -> str:
    """What MoRec and CTRL train of the sentence encoder, where it is not all of it as in both papers."""
    tuned = settings.encoder.tune
    if tuned == "full":
        return ""
    return f"its sentence encoder {'frozen' if tuned == 'frozen' else f'tuned in the last {tuned} layers only'}"


def _text_fields(rate: float | None) -> Callable[[RunConfig], dict[str, Any]]:
    """The run's encoder, tuned in full, and the run's CF training of a SASRec, at a learning rate of their own."""

    def inherited(config: RunConfig) -> dict[str, Any]:
        pretrain = for_backbone(config.pretrain, "sasrec").model_dump(mode="json")
        if rate is not None:
            pretrain["training"]["learning_rate"] = rate
        return {"encoder": config.encoder.model_dump(mode="json") | {"tune": "full"}, "pretrain": pretrain}

    return inherited


T = TypeVar("T", MoRecConfig, CTRLConfig)


def _text_system(
    name: str,
    about: str,
    title: str,
    settings: Settings[T],
    train: Callable[..., tuple[nn.Module, TrainingLog, dict[str, TrainingLog]]],
) -> SystemKind:
    """A system that encodes texts while it is trained and ends as a plain SASRec."""

    def trained(run: Run, stage: Stage, own: T) -> StageResult:
        encoder = sentence_encoder(run, own.encoder)
        model, log, others = train(
            everything(run), item_texts(run), encoder, own, run.config.seed, run.resume(stage), run.device
        )
        return logged(model.state_dict(), log, **others)

    def load(run: Run, weights: Mapping[str, Tensor], own: T) -> Ranker:
        model = backbone_kind("sasrec").load(weights, own.pretrain.model)
        return BackboneRecommender(model.to(run.device), title)

    return trained_system(
        name,
        about,
        settings,
        trained,
        load,
        more=lambda config: {"item_text": config.item_text.model_dump(mode="json")},
        encoder=lambda config, own: own.encoder,
        texts=True,
        note=encoder_note,
    )


def _train_morec(*arguments: Any) -> tuple[nn.Module, TrainingLog, dict[str, TrainingLog]]:
    return *train_morec(*arguments), {}


def _train_ctrl(*arguments: Any) -> tuple[nn.Module, TrainingLog, dict[str, TrainingLog]]:
    model, contrasted, log = train_ctrl(*arguments)
    return model, log, {"contrast": contrasted}


# --- trained otherwise ---


def _tokens(run: Run, settings: RecformerTrainingConfig) -> ItemTokens:
    """The catalogue in the tokens of the Longformer that is named, or of the encoder where a small one is built."""
    longformer = settings.model.longformer
    named = longformer_tokenizer(longformer) if longformer else encoder_parts(run).tokenizer
    return ItemTokens.of(run.dataset.catalogue, named)


def _train_recformer(run: Run, stage: Stage, settings: RecformerTrainingConfig) -> StageResult:
    tokens = _tokens(run, settings)
    model, logs = train_recformer(everything(run), tokens, settings, run.config.seed, run.resume(stage), run.device)
    return logged(model.state_dict(), logs.pop("second"), **logs)


def _load_recformer(run: Run, weights: Mapping[str, Tensor], settings: RecformerTrainingConfig) -> Ranker:
    model = Recformer.from_arrays(weights, _tokens(run, settings), settings.model).to(run.device)
    return BackboneRecommender(model, model.name)


def _stage_two_fields(config: RunConfig) -> dict[str, Any]:
    """Prompt, samples and training of stage 2, at TALLRec's learning rate."""
    tune = config.tune.model_dump(mode="json")
    samples = {name: tune[name] for name in SampleConfig.model_fields}
    rate = {"learning_rate": TALLRecConfig().training.learning_rate}
    prompt = {name: tune["prompt"][name] for name in ("template", "budget")}
    return {**samples, **prompt, "training": tune["training"] | rate}


def _train_tallrec(run: Run, stage: Stage, settings: TALLRecConfig) -> StageResult:
    titles = run.dataset.catalogue.titles
    model, log = train_tallrec(run.split, language_model(run), titles, settings, run.config.seed, run.resume(stage))
    return logged(model.state_dict(), log)


def _load_tallrec(run: Run, weights: Mapping[str, Tensor], settings: TALLRecConfig) -> Ranker:
    answer, titles = run.config.answer, run.dataset.catalogue.titles
    batch = max(1, answer.batch_size // 2)
    return TALLRec.from_arrays(weights, language_model(run), titles, settings, answer.normalisation, batch)


# --- the entries ---

_LATE_FUSION = trained_system(
    "late-fusion",
    "a regression over the CF model, texts and popularity",
    _FUSION,
    _train_fusion(LateFusion, _fusion_parts),
    lambda run, weights, settings: LateFusion.from_tensors(
        _rows(run, weights, "counts", "int"), _fusion_parts(run, settings)
    ),
    encoder=_text_encoder,
    parents=_fusion_parents,
)

BASELINES = (
    trained_system(
        "text-similarity",
        "similarity of titles to the history's",
        Settings("text-similarity", TextSimilarityConfig),
        _nothing,
        lambda run, weights, settings: TextSimilarity(title_similarity(run, settings.max_history)),
        encoder=_text_encoder,
        texts=True,
        parents=lambda config: (TEXTS,),
    ),
    trained_system(
        "bm25",
        "words that titles share",
        Settings("bm25", BM25Config),
        _train_bm25,
        lambda run, weights, settings: BM25(run.dataset.catalogue.titles, settings),
        texts=True,
    ),
    trained_system(
        "item-knn",
        "items that the same users interacted with",
        Settings("item-knn", ItemKNNConfig),
        lambda run, stage, settings: StageResult(ItemKNN.of(everything(run), settings).tensors(), {}),
        lambda run, weights, settings: ItemKNN.from_tensors(
            _rows(run, weights, "indptr", "int", 1), settings.max_history
        ),
    ),
    trained_system(
        "ease",
        "a linear item-to-item model",
        Settings("ease", EASEConfig),
        lambda run, stage, settings: StageResult(EASE.of(everything(run), settings).tensors(), {}),
        lambda run, weights, settings: EASE.from_tensors(_rows(run, weights, "weights", "float", 0, None)),
    ),
    _LATE_FUSION,
    # It is compared with late fusion, so that is trained too, on the same users.
    trained_system(
        "late-fusion-llm",
        "late fusion with A-LLMRec's score",
        _FUSION,
        _train_fusion(LateFusionLLM, _fusion_parts_llm),
        lambda run, weights, settings: LateFusionLLM.from_tensors(
            _rows(run, weights, "counts", "int"), _fusion_parts_llm(run, settings)
        ),
        more=_normalisation,
        encoder=_text_encoder,
        llm=True,
        parents=lambda config: (*_LATE_FUSION.stages(config), TUNE),
        titles=lambda config: config.method == "score",
    ),
)

TRAINED_BASELINES = (
    _text_system(
        "morec",
        "MoRec: SASRec on encoded texts",
        "MoRec",
        Settings("morec", MoRecConfig, _text_fields(MoRecConfig().pretrain.training.learning_rate)),
        _train_morec,
    ),
    _text_system(
        "ctrl",
        "CTRL: SASRec aligned with texts",
        "CTRL",
        Settings("ctrl", CTRLConfig, _text_fields(None)),
        _train_ctrl,
    ),
    trained_system(
        "recformer",
        "RECFORMER: a Longformer over items' texts",
        Settings("recformer", RecformerTrainingConfig),
        _train_recformer,
        _load_recformer,
        encoder=_run_encoder,
        texts=True,
    ),
    trained_system(
        "tallrec",
        "TALLRec: the language model adapted, titles alone",
        Settings("tallrec", TALLRecConfig, _stage_two_fields),
        _train_tallrec,
        _load_tallrec,
        llm=True,
        titles=lambda config: True,
    ),
)
