"""A run's own systems: what is there as soon as A-LLMRec's stages are, with every way of answering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.popularity import Popularity
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.pipeline.run import Run
from allmrec.recommend.answering import ConstrainedRecommender, GeneratingRecommender
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.resolve import TitleResolver, template_quotes
from allmrec.stages.cf import PRETRAIN, backbone, cf_in_use, cold_rows, known_counts
from allmrec.stages.frozen import language_model
from allmrec.stages.tune import allmrec_stages, prompted_ranker
from allmrec.systems.answers import answering, by_scores, check_text_vectors, check_titles_learned
from allmrec.systems.cold import cold_threshold
from allmrec.systems.kinds import AbsentError, Answers, System, SystemKind
from allmrec.systems.trained import own_backbone

__all__ = ["OWN"]


def _popularity(run: Run) -> System:
    return System(Popularity(known_counts(run)))


def _held_out_backbone(run: Run) -> System:
    n = run.config.held_out_targets
    if not n:
        raise AbsentError("held_out_targets is 0, so there is one CF model only")
    name = backbone_kind(run.config.pretrain.backbone).title
    last = "last training item" if n == 1 else f"last {n} training items"
    users = run.config.held_out_users
    whose = "each user's" if users is None else f"{users:,} users'"
    note = f"the CF model inside A-LLMRec: trained without {whose} {last}"
    if backbone_kind(run.config.pretrain.backbone).ready is not None:
        note = "the CF model inside A-LLMRec: trained elsewhere, nothing could be held out from it"
    return System(BackboneRecommender(backbone(run), f"{name} (held out)"), note=note)


def _llm_only(run: Run) -> System:
    prompt, answer = run.config.tune.prompt, run.config.answer
    titles = run.dataset.catalogue.titles
    batch = max(1, answer.batch_size // 2)
    made = LLMOnly(language_model(run), titles, prompt.template, prompt.budget, answer.normalisation, batch)
    return System(made, titles=True, note="nothing trained")


def _by_titles(run: Run, name: str, text: bool = False) -> System:
    untrained = run.config.tune.title_weight == 0
    made = answering(run, by_scores(run, "score", name), text=text)
    return replace(made, titles=True, note="title loss not trained in this run" if untrained else "")


def _by_titles_on_texts(run: Run) -> System:
    check_text_vectors(run)
    return _by_titles(run, "A-LLMRec (SBERT)", text=True)


def _select(run: Run, name: str = "A-LLMRec (select)", text: bool = False) -> System:
    if run.config.tune.select_weight == 0:
        raise AbsentError("tune.select_weight is 0, so the pointer head is not trained")
    return answering(run, by_scores(run, "select", name), text=text)


def _select_on_texts(run: Run) -> System:
    check_text_vectors(run)
    return _select(run, "A-LLMRec (select, SBERT)", text=True)


def _generate(run: Run) -> System:
    """The released program's way to answer: decode, then see whose title it is. Only where titles were learned."""
    check_titles_learned(run)
    answer = run.config.answer
    quotes = template_quotes(run.config.tune.prompt.template)

    made: list[GeneratingRecommender] = []

    def ranker_of(prompted: PromptedRanker) -> GeneratingRecommender:
        resolver = TitleResolver(run.dataset.catalogue.titles, quotes)
        made.append(GeneratingRecommender(prompted, resolver, answer.generate, batch_size=answer.batch_size))
        return made[-1]

    def note() -> str:
        # Of the one that was asked last: a recommender makes its own.
        found = made[-1].statistics
        share = found.in_candidates / max(1, found.asked)
        return f"valid answers {share:.3f}: {found}; one answer a user: only Hit@1 counts"

    return replace(answering(run, ranker_of, scores_each=False), titles=True, note=note)


def _constrained(run: Run) -> System:
    check_titles_learned(run)
    batch = run.config.answer.batch_size
    made = answering(run, lambda prompted: ConstrainedRecommender(prompted, batch_size=batch), scores_each=False)
    return replace(made, titles=True, note="always a candidate's title; one answer a user: only Hit@1 counts")


def _cold(run: Run) -> System:
    """The third variant: `e` or `q` by the number of interactions, the threshold chosen on validation items."""
    check_text_vectors(run)
    method = run.method
    name = "A-LLMRec (select, cold rule)" if method == "select" else "A-LLMRec (cold rule)"
    prompted, ranker_of = prompted_ranker(run), by_scores(run, method, name)

    def on_rows(below: int) -> PromptedRanker:
        return prompted.with_joint(prompted.joint.with_source(cold_rows(run, below)))

    below = cold_threshold(run, lambda below: ranker_of(on_rows(below)), method)
    chosen = "" if run.config.answer.cold_below is not None else ", chosen on validation items"
    cold = int(cold_rows(run, below).sum())
    what = f"text vectors for the {cold:,} items with fewer than {below} interactions" if cold else "no text vectors"
    found = on_rows(below)
    return System(ranker_of(found), method == "score", what + chosen, Answers(found, ranker_of))


def _with_stage_two(name: str, about: str, opened: Callable[[Run], System]) -> SystemKind:
    return SystemKind(name, about, opened, allmrec_stages, own=True, prompted=True)


# In the order of the table.
OWN = (
    SystemKind("popularity", "the items with most interactions", _popularity, own=True),
    SystemKind(
        "backbone",
        "the run's CF model",
        lambda run: System(own_backbone(run)),
        lambda config: (cf_in_use(config),),
        own=True,
    ),
    SystemKind(
        "backbone-held-out",
        "the CF model inside A-LLMRec",
        _held_out_backbone,
        lambda config: (PRETRAIN,) if config.held_out_targets else (),
        own=True,
    ),
    SystemKind("llm-only", "the language model as it comes", _llm_only, own=True, prompted=True),
    _with_stage_two("allmrec", "A-LLMRec by the likelihood of titles", lambda run: _by_titles(run, "A-LLMRec")),
    _with_stage_two("allmrec-sbert", "the same with text vectors", _by_titles_on_texts),
    _with_stage_two("allmrec-generate", "A-LLMRec by writing a title", _generate),
    _with_stage_two("allmrec-constrained", "A-LLMRec by writing a candidate's title", _constrained),
    _with_stage_two("allmrec-select", "A-LLMRec by the pointer head", _select),
    _with_stage_two("allmrec-select-sbert", "the same with text vectors", _select_on_texts),
    _with_stage_two("allmrec-cold", "A-LLMRec with text vectors for cold items", _cold),
)
