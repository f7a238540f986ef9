"""Where a run's answer attends to before and after stage 2's training, on its frozen test users and candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from allmrec.core.artifacts import versions
from allmrec.pipeline.run import Run
from allmrec.recommend.attention import AnswerAttention, Group, HeadGain, answer_attention, largest_gains
from allmrec.stages.tune import TUNE, allmrec_stages, prompted_ranker
from allmrec.systems.evaluating import run_protocol

__all__ = ["AttentionChange", "attention_change"]

# The groups that are stored head by head in any case: what the heatmaps show, and what it is compared with.
_BY_HEAD = (Group.TARGET_TITLE_START, Group.OTHER_TITLE_STARTS)


@dataclass(frozen=True, eq=False)
class AttentionChange:
    """The answer's attention with the projections as they are initialised, and as they were trained.

    Attributes:
        before, after: the mean over the same users and candidates.
        language_model: its name.
        form: the named form of the prompt.
        parallel: whether candidates are read in parallel.
        about: what it was made of, for whoever finds the numbers later.
    """

    before: AnswerAttention
    after: AnswerAttention
    language_model: str
    form: str
    parallel: bool
    about: dict[str, Any]

    def gains(self, count: int) -> list[HeadGain]:
        """The heads whose attention to the first token of the target's title grew most."""
        return largest_gains(self.before, self.after, count)

    def as_json(self, gains: int, layer_by_head: bool = False) -> dict[str, Any]:
        """All of it as plain values.

        Args:
            gains: how many heads with the largest gain to list.
            layer_by_head: give every group's share by layer and head, and not only that of titles' first tokens.
        """
        shape = self.after.shares.shape
        return {
            "kind": "allmrec answer attention",
            "language_model": self.language_model,
            "form": self.form,
            "parallel": self.parallel,
            "users": self.after.users,
            "candidates": self.after.candidates,
            "layers": shape[1],
            "heads": shape[2],
            "counted": "layers and heads from 1; groups of other candidates: mean per candidate",
            "largest_gains": [_rounded(gain) for gain in self.gains(gains)],
            "before": _as_json(self.before, Group if layer_by_head else _BY_HEAD),
            "after": _as_json(self.after, Group if layer_by_head else _BY_HEAD),
            **self.about,
        }


def attention_change(run: Run, users: int, command: str | None = None) -> AttentionChange:
    """Compare the untrained ranker with the trained one.

    Args:
        run: a trained run.
        users: how many of its test users, from the first on.
        command: for the record.

    Raises:
        ArtifactError: a stage is missing, of other inputs, or damaged.
        ConfigError: the language model gives no attention weights.
    """
    run.check(allmrec_stages(run.config))
    protocol = run_protocol(run).first(users)
    queries, candidates = protocol.queries(run.split), list(protocol.candidates)
    before, after = (
        answer_attention(
            prompted_ranker(run, trained),
            queries,
            candidates,
            protocol.targets,
            run.config.answer.batch_size,
            "attention after training" if trained else "attention before training",
        )
        for trained in (False, True)
    )
    template = run.config.tune.prompt.template
    about = {
        "dataset_hash": protocol.dataset_hash,
        "protocol_hash": protocol.hash,
        "tune": run.stage(TUNE).key,
        "title_weight": run.config.tune.title_weight,
        "select_weight": run.config.tune.select_weight,
        "versions": versions(),
        "device": str(run.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    return AttentionChange(before, after, run.config.llm.name, template.form, template.is_parallel, about)


def _as_json(seen: AnswerAttention, by_head: Iterable[Group]) -> dict[str, Any]:
    """Shares as rounded numbers: the mean over heads of every group, and of some groups all heads."""
    return {
        "by_layer": {str(group): seen.of(group).mean(axis=1).round(6).tolist() for group in Group},
        "by_layer_and_head": {str(group): seen.of(group).round(6).tolist() for group in by_head},
    }


def _rounded(gain: HeadGain) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(gain).items()}
