"""The pointer head: picks a candidate from hidden states in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.config import Config
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.recommend.prior import FUSED, standardised

__all__ = ["PointerConfig", "PointerHead"]


class PointerConfig(Config):
    """Shape of the pointer head (ours; the paper has none)."""

    dim: int = Field(128, ge=1, description="Width in which query and keys meet.")
    layers: int | None = Field(
        None,
        ge=0,
        description="Layers of the language model that are run; none: all; 0: the head reads the projected vectors and "
        "the embedded words as they are, which shows what the language model adds.",
    )
    query: Literal["answer", "answer+user", "answer+user+history"] = Field(
        "answer+user+history",
        description="Hidden states that make the query: the place where the answer begins, alone or with the user's "
        "slot and the mean over the history's slots.",
    )
    cf_prior: bool = Field(
        False, description="Add the CF model's own score times a learned weight: the head then learns what CF lacks."
    )
    prior: Literal["cf", "fused"] = Field(
        "cf",
        description="What `cf_prior` adds: the CF model's score, or what late fusion would make of it, with similarity of "
        "texts, popularity and inverse popularity. Those weights begin as they explain the training targets best, by themselves.",
    )
    similarity: Literal["plain", "joint"] = Field(
        "plain",
        description="Whose vectors of texts the fused prior compares: the untouched sentence encoder's, of titles and "
        "centred, which need no stage 1; or stage 1's joint text vectors.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on query and keys.")

    @property
    def reads_texts(self) -> bool:
        """Whether the prior compares titles by the untouched sentence encoder."""
        return self.cf_prior and self.prior == "fused" and self.similarity == "plain"

    @property
    def reads_joint_texts(self) -> bool:
        """Whether it compares stage 1's text vectors."""
        return self.cf_prior and self.prior == "fused" and self.similarity == "joint"


class PointerHead(nn.Module):
    """Scores candidates by comparing a query with keys, as a pointer network does (Vinyals et al. 2015).

    Query and keys are hidden states of the language model, so they have read titles and neighbours in the prompt;
    softmax over the candidates makes an answer valid by construction.

    Args:
        dim: dim of the hidden states.
        config: shape.
    """

    def __init__(self, dim: int, config: PointerConfig) -> None:
        super().__init__()
        self.config = config
        sources = 1 + config.query.count("+")
        self.query_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sources))
        self.key_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(sources * dim, config.dim)
        self.key = nn.Linear(dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.cf_weight = self.fused_weights = None
        if config.cf_prior:
            self.cf_weight = nn.Parameter(torch.tensor(2.5))
            if config.prior == "fused":
                self.fused_weights = nn.Parameter(torch.zeros(FUSED))
            # Start as the CF model's own ranking; what the language model adds is learned from there.
            nn.init.zeros_(self.key.weight)
            nn.init.zeros_(self.key.bias)

    def read(
        self,
        hidden: Float[Tensor, "batch tokens dim"],
        prompts: SplicedPrompts,
        cf_scores: Float[Tensor, "batch candidates"] | None,
        fused: Float[Tensor, "batch candidates features"] | None,
    ) -> Float[Tensor, "batch candidates"]:
        """Logits of the candidates from what a language model made of whole prompts.

        Args:
            hidden: its hidden states, in single precision.
            prompts: where slots and answers are.
            cf_scores, fused: as for `forward`.
        """
        rows = torch.arange(len(hidden), device=hidden.device)
        others = []
        if "user" in self.config.query:
            # Without a user slot the first place stands in; it sees nothing and is the same for everybody.
            others.append(hidden[rows, prompts.user_at.clamp_min(0)])
        if "history" in self.config.query:
            others.append(prompts.mean_over_history(hidden))
        answer = hidden[rows, prompts.lengths - 1]
        logits: Tensor = self(answer, others, hidden[rows[:, None], prompts.candidates_at], cf_scores, fused)
        return logits

    def forward(
        self,
        answer: Float[Tensor, "batch dim"],
        others: Sequence[Float[Tensor, "batch dim"]],
        candidates: Float[Tensor, "batch candidates dim"],
        cf_scores: Float[Tensor, "batch candidates"] | None = None,
        fused: Float[Tensor, "batch candidates features"] | None = None,
    ) -> Float[Tensor, "batch candidates"]:
        """Logits of the candidates.

        Args:
            answer: hidden state where the answer begins.
            others: further hidden states that the query is made of, as many as the config names.
            candidates: hidden states at the candidates' slots.
            cf_scores: the CF model's scores, read only with `cf_prior`.
            fused: what `fused_features` made, read only where the prior is `fused`.
        """
        states = [answer, *others]
        query = torch.cat([norm(s) for norm, s in zip(self.query_norms, states, strict=True)], dim=-1)
        query = self.dropout(self.query(query))
        keys = self.dropout(self.key(self.key_norm(candidates)))
        logits = torch.einsum("bw,bcw->bc", query, keys) / math.sqrt(self.config.dim)
        if self.cf_weight is not None and cf_scores is not None:
            logits = logits + self.cf_weight * standardised(cf_scores)
        if self.fused_weights is not None and fused is not None:
            logits = logits + fused @ self.fused_weights
        return logits
