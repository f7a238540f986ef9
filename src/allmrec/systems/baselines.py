"""The systems beside A-LLMRec as entries of the table: how each is trained, stored and opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from allmrec.cf.pretrain import PretrainConfig
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.pipeline.cf_stage import cf_in_use, everything
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.frozen import encoder_parts, language_model, sentence_encoder
from allmrec.pipeline.run import Run
from allmrec.pipeline.text_stage import TEXTS, item_texts, title_similarity
from allmrec.pipeline.tune_stage import TUNE
from allmrec.ranking import Ranker
from allmrec.recommend.samples import SampleConfig
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.answers import answering, by_scores
from allmrec.systems.trained import logged, own_backbone, trained_system
from allmrec.text.encoder import EncoderConfig

__all__ = ["BASELINES", "TRAINED_BASELINES", "encoder_note"]


def _encoder_config(config: RunConfig) -> EncoderConfig:
    return config.encoder.model_copy(update={"tune": config.systems.encoder_tune})


def encoder_note(config: RunConfig) -> str:
    """What MoRec and CTRL train of the sentence encoder, where it is not all of it as in both papers."""
    tuned = config.systems.encoder_tune
    if tuned == "full":
        return ""
    return f"its sentence encoder {'frozen' if tuned == 'frozen' else f'tuned in the last {tuned} layers only'}"


def _plain_texts(config: RunConfig) -> dict[str, Any]:
    """What decides the texts and how MoRec and CTRL read them."""
    return {"item_text": config.item_text.model_dump(mode="json"), "encoder": _encoder_config(config).deciding}


# --- late fusion ---


def _fusion_parts(run: Run) -> dict[str, Ranker]:
    cf = own_backbone(run)
    return {
        cf.name: cf,
        "text": TextSimilarity(title_similarity(run, run.config.systems.text_history, centred=True)),
    }


def _fusion_parts_llm(run: Run) -> dict[str, Ranker]:
    llm = answering(run, by_scores(run, run.method, "A-LLMRec")).ranker
    return _fusion_parts(run) | {"LLM": llm}


def _fusion_config(config: RunConfig) -> dict[str, Any]:
    return config.systems.fusion.model_dump(mode="json") | {"last": config.systems.text_history}


def _fusion_config_llm(config: RunConfig) -> dict[str, Any]:
    """What makes a score of a title's tokens is part of it."""
    normalisation = {"normalisation": config.evaluation.normalisation} if config.method == "score" else {}
    return _fusion_config(config) | normalisation


def _train_fusion(
    kind: type[LateFusion], parts: Callable[[Run], dict[str, Ranker]]
) -> Callable[[Run, Stage], StageResult]:
    def train(run: Run, stage: Stage) -> StageResult:
        fused = kind.fit(parts(run), everything(run), run.config.seed, run.config.systems.fusion)
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
    config, encoder = run.config, sentence_encoder(run, _encoder_config(run.config))
    model, log = train_morec(
        everything(run), item_texts(run), encoder, config.systems.morec, config.seed, run.resume(stage), run.device
    )
    return logged(model.state_dict(), log)


def _train_ctrl(run: Run, stage: Stage) -> StageResult:
    config, encoder = run.config, sentence_encoder(run, _encoder_config(run.config))
    model, contrasted, log = train_ctrl(
        everything(run), item_texts(run), encoder, config.systems.ctrl, config.seed, run.resume(stage), run.device
    )
    return logged(model.state_dict(), log, contrast=contrasted)


def _sasrec(name: str, settings: Callable[[RunConfig], PretrainConfig]) -> Callable[..., Ranker]:
    """Loads what ends as a plain SASRec."""

    def load(run: Run, weights: Mapping[str, Tensor]) -> Ranker:
        model = backbone_kind("sasrec").load(weights, settings(run.config).model)
        return BackboneRecommender(model.to(run.device), name)

    return load


def _tokens(run: Run) -> ItemTokens:
    """The catalogue in the tokens of the Longformer that is named, or of the encoder where a small one is built."""
    longformer = run.config.systems.recformer.model.longformer
    named = longformer_tokenizer(longformer) if longformer else encoder_parts(run).tokenizer
    return ItemTokens.of(run.dataset.catalogue, named)


def _train_recformer(run: Run, stage: Stage) -> StageResult:
    config = run.config.systems.recformer
    model, logs = train_recformer(everything(run), _tokens(run), config, run.config.seed, run.resume(stage), run.device)
    return logged(model.state_dict(), logs.pop("second"), **logs)


def _load_recformer(run: Run, weights: Mapping[str, Tensor]) -> Ranker:
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
        run.split, language_model(run), titles, _tallrec_config(run.config), run.config.seed, run.resume(stage)
    )
    return logged(model.state_dict(), log)


def _load_tallrec(run: Run, weights: Mapping[str, Tensor]) -> Ranker:
    evaluation, titles = run.config.evaluation, run.dataset.catalogue.titles
    batch = max(1, evaluation.batch_size // 2)
    return TALLRec.from_arrays(
        weights, language_model(run), titles, _tallrec_config(run.config), evaluation.normalisation, batch
    )


def _dumped(part: Callable[[RunConfig], Any]) -> Callable[[RunConfig], Mapping[str, Any]]:
    return lambda config: part(config).model_dump(mode="json")


_LATE_FUSION = trained_system(
    "late-fusion",
    "a regression over the CF model, texts and popularity",
    _fusion_config,
    _train_fusion(LateFusion, _fusion_parts),
    lambda run, weights: LateFusion.from_tensors(weights, _fusion_parts(run)),
    encoder=True,
    parents=lambda config: (cf_in_use(config), TEXTS),
)

BASELINES = (
    trained_system(
        "text-similarity",
        "similarity of titles to the history's",
        lambda config: {"last": config.systems.text_history},
        _nothing,
        lambda run, weights: TextSimilarity(title_similarity(run, run.config.systems.text_history)),
        encoder=True,
        texts=True,
        parents=lambda config: (TEXTS,),
    ),
    trained_system(
        "bm25",
        "words that titles share",
        _dumped(lambda config: config.systems.bm25),
        _train_bm25,
        lambda run, weights: BM25(run.dataset.catalogue.titles, run.config.systems.bm25),
        texts=True,
    ),
    trained_system(
        "item-knn",
        "items that the same users interacted with",
        _dumped(lambda config: config.systems.item_knn),
        lambda run, stage: StageResult(ItemKNN.of(everything(run), run.config.systems.item_knn).tensors(), {}),
        lambda run, weights: ItemKNN.from_tensors(weights, run.config.systems.item_knn.last),
    ),
    trained_system(
        "ease",
        "a linear item-to-item model",
        _dumped(lambda config: config.systems.ease),
        lambda run, stage: StageResult(EASE.of(everything(run), run.config.systems.ease).tensors(), {}),
        lambda run, weights: EASE.from_tensors(weights),
    ),
    _LATE_FUSION,
    # It is compared with late fusion, so that is trained too, on the same users.
    trained_system(
        "late-fusion-llm",
        "late fusion with A-LLMRec's score",
        _fusion_config_llm,
        _train_fusion(LateFusionLLM, _fusion_parts_llm),
        lambda run, weights: LateFusionLLM.from_tensors(weights, _fusion_parts_llm(run)),
        encoder=True,
        llm=True,
        parents=lambda config: (*_LATE_FUSION.stages(config), TUNE),
        titles=lambda config: config.method == "score",
    ),
)

TRAINED_BASELINES = (
    trained_system(
        "morec",
        "MoRec: SASRec on encoded texts",
        lambda config: config.systems.morec.model_dump(mode="json") | _plain_texts(config),
        _train_morec,
        _sasrec("MoRec", lambda config: config.systems.morec.pretrain),
        encoder=True,
        texts=True,
        note=encoder_note,
    ),
    trained_system(
        "ctrl",
        "CTRL: SASRec aligned with texts",
        lambda config: config.systems.ctrl.model_dump(mode="json") | _plain_texts(config),
        _train_ctrl,
        _sasrec("CTRL", lambda config: config.systems.ctrl.pretrain),
        encoder=True,
        texts=True,
        note=encoder_note,
    ),
    trained_system(
        "recformer",
        "RECFORMER: a Longformer over items' texts",
        _dumped(lambda config: config.systems.recformer),
        _train_recformer,
        _load_recformer,
        encoder=True,
        texts=True,
    ),
    trained_system(
        "tallrec",
        "TALLRec: the language model adapted, titles alone",
        _dumped(_tallrec_config),
        _train_tallrec,
        _load_tallrec,
        llm=True,
        titles=lambda config: True,
    ),
)
