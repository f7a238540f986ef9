"""The trained part of stage 2 with the frozen parts around it: queries in, logits or title likelihoods out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.core.frozen import Frozen
from allmrec.core.seeding import seeded_torch
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.slots import SlotContents
from allmrec.prompting.splicing import SplicedPrompts, splice
from allmrec.prompting.tokenising import PromptBuilder, TokenisedPrompt
from allmrec.ranking import Query
from allmrec.recommend.item_blocks import ItemBlocks, KeptBlocks
from allmrec.recommend.prior_scores import PriorScores, user_states
from allmrec.recommend.prompt_config import PromptConfig, check_prompt
from allmrec.recommend.score import TitleTree, mean_title_loss, title_log_likelihoods
from allmrec.recommend.select import PointerHead
from allmrec.recommend.shared import Vectors, shared_title_loss
from allmrec.recommend.start import begun_projections
from allmrec.text.similarity import TitleSimilarity

__all__ = ["PromptedRanker", "StageTwoLosses"]


@dataclass(frozen=True)
class StageTwoLosses:
    """The two terms of stage 2, each averaged over the batch; None where it was not asked for."""

    title: Float[Tensor, ""] | None
    select: Float[Tensor, ""] | None


class PromptedRanker(nn.Module):
    """Stage 2 (paper, section 3.2): F_U, F_I and our pointer head are trained; CF, joint vectors and LLM are frozen.

    It belongs to one table of items. `with_joint` and `with_items` give a ranker on another one that shares the weights.

    Args:
        lm: the language model.
        backbone: the frozen CF model.
        joint: joint vectors of all items.
        titles: by item number, entry 0 unused.
        config: prompt, projections and head.
        seed: of the initialisation.
        prior: the CF model whose scores `pointer.cf_prior` adds; none: `backbone`. Where stage 2 learned on targets
            held out from `backbone`, a CF model trained on everything takes its place in use.
        counts: training interactions by item number, which `slots = "gate"` and `pointer.prior = "fused"` read.
        texts: similarity of titles, where `pointer.similarity = "plain"` has the fused prior read it.

    Raises:
        ConfigError: the prior reads counts or texts, and none came; or the language model cannot read such prompts.
    """

    def __init__(
        self,
        lm: LanguageModel,
        backbone: Backbone,
        joint: JointItemTable,
        titles: Sequence[str | None],
        config: PromptConfig,
        seed: int = 0,
        prior: Backbone | None = None,
        counts: Int[np.ndarray, " items"] | None = None,
        texts: TitleSimilarity | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        check_prompt(lm, config)
        self.slots = SlotContents(config.slots).to(lm.device)
        self._counts = None if counts is None else torch.from_numpy(counts)
        for model in (backbone, prior):
            if isinstance(model, nn.Module):
                Frozen(model)
        # In a tuple so that torch does not take the backbones for children, to be trained and stored with the rest.
        self._lm, self._backbones = lm, (backbone, prior or backbone)
        template = config.template
        if not config.user_vector:
            template = template.without_user()
        if not config.item_vectors:
            template = template.without_items()
        self.builder = PromptBuilder(template, config.budget, lm, titles)
        # Keep what the language model reads of an item for every list that it stands in, where the prompt allows that
        # (`PromptTemplate.is_shared`). For a ranker whose weights stay as they are.
        self.keeps_items = False
        # Shared with the rankers that `with_items` and `with_joint` make of this one: they have its weights.
        self.kept_blocks = KeptBlocks()
        self._take(joint, PriorScores(config.pointer, self.prior, self._counts, texts))
        with seeded_torch(seed, "stage 2"):
            self.users, self.items = begun_projections(
                lm, backbone, self.slots, self._slot_table, self.slots.dim(joint), config.projection
            )
            # Without any layer the head reads what the projections and the words give.
            dim = lm.dim if config.pointer.layers == 0 else lm.hidden_dim
            self.head = PointerHead(dim, config.pointer)

    def _take(self, joint: JointItemTable, prior: PriorScores) -> None:
        """Belong to a table of items."""
        self._joint, self._slot_table = joint, self.slot_table(joint)
        self.prior_scores = prior.on(joint)
        self._blocks: ItemBlocks | None = None

    @property
    def lm(self) -> LanguageModel:
        """The frozen language model."""
        return self._lm

    @property
    def backbone(self) -> Backbone:
        """The frozen CF model."""
        return self._backbones[0]

    @property
    def prior(self) -> Backbone:
        """The CF model that knows most: it retrieves candidates, and its scores are the head's prior."""
        return self._backbones[1]

    @property
    def joint(self) -> JointItemTable:
        """The joint vectors that fill item slots."""
        return self._joint

    def with_joint(self, table: JointItemTable) -> PromptedRanker:
        """The same ranker, its weights shared, on other joint vectors; this one stays as it is."""
        other = copy.copy(self)
        other._take(table, self.prior_scores)
        return other

    def with_items(
        self,
        joint: JointItemTable,
        titles: Sequence[str | None],
        texts: tuple[Float[Tensor, "new dim"], Bool[Tensor, " new"]] | None = None,
    ) -> PromptedRanker:
        """The same ranker, its weights shared, with new items behind the others; this one stays as it is.

        Args:
            joint: the table with their rows.
            titles: of the new items only.
            texts: the untouched encoder's vectors of their titles, and which have one; only where the prior reads them.
        """
        other = copy.copy(self)
        other.builder = self.builder.with_titles(titles)
        other._take(joint, self.prior_scores if texts is None else self.prior_scores.with_texts(*texts))
        return other

    def slot_table(self, joint: JointItemTable) -> Float[Tensor, "items columns"]:
        """What item slots are filled from, one row an item; see `SlotContents`."""
        return self.slots.table(joint.to(self._lm.device), self._counts)

    def user_states(self, queries: Sequence[Query]) -> Float[Tensor, "batch d"]:
        """x_u of each query, from the frozen CF model. Items that it does not know are no part of its history."""
        return user_states(self.backbone, queries).to(self._lm.device)

    def prompts(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]], reserve: int = 0
    ) -> list[TokenisedPrompt]:
        """Tokenised prompts, one a query."""
        return [
            self.builder.build(q.history.tolist(), c.tolist(), reserve)
            for q, c in zip(queries, candidates, strict=True)
        ]

    def spliced(
        self,
        prompts: Sequence[TokenisedPrompt],
        states: Float[Tensor, "batch d"],
        extra: Sequence[Sequence[int]] | None = None,
        vectors: Float[Tensor, "items columns"] | None = None,
    ) -> SplicedPrompts:
        """Prompts with O_u and O_i in their slots.

        Args:
            prompts: tokenised prompts.
            states: x_u of each.
            extra: answers' tokens to follow each prompt.
            vectors: a `slot_table` to use in place of the ranker's own.
        """
        users = self.users(states) if self.config.user_vector else None
        vectors_of, items = self._item_vectors(vectors), None
        if vectors_of is not None:
            items = vectors_of(np.concatenate([np.concatenate([p.history, p.candidates]) for p in prompts]))
        return splice(prompts, self._lm, users, items, extra)

    def embedded(
        self,
        prompts: Sequence[TokenisedPrompt],
        queries: Sequence[Query],
        vectors: Float[Tensor, "items columns"] | None = None,
    ) -> SplicedPrompts:
        """Prompts with these users' vectors in their slots, and those of the items that they show; see `spliced`."""
        return self.spliced(prompts, self.user_states(queries), None, vectors)

    def select_logits(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> Float[Tensor, "batch candidates"]:
        """The pointer head's logits; every query needs the same number of candidates."""
        states = self.user_states(queries)
        prompts = self.spliced(self.prompts(queries, candidates), states)
        hidden = self._read(prompts, self.config.pointer.layers)
        return self._pointed(hidden, prompts, queries, candidates)

    def title_likelihoods(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[Tensor, "_titles _tokens"]]:
        """Log-probability of each token of each candidate's title, all of a query in one forward pass.

        With `keeps_items` only the user's tail and the titles are read, and nothing is differentiable.
        """
        if (kept := self._kept_items()) is not None:
            states = self.user_states(queries)
            return kept.likelihoods(self.users(states) if self.config.user_vector else None, candidates)
        titles = self.builder.titles
        trees = [TitleTree.build([titles[int(i)] for i in c], self._lm.eos_id) for c in candidates]
        reserve = max(self.builder.longest_answer(c.tolist()) for c in candidates)
        prompts = self.prompts(queries, candidates, reserve)
        return title_log_likelihoods(self._lm, self.spliced(prompts, self.user_states(queries)), trees)

    @contextmanager
    def keeping_items(self) -> Iterator[None]:
        """Within it `keeps_items` is on, and what was kept is given up at the end."""
        before, self.keeps_items = self.keeps_items, True
        try:
            yield
        finally:
            self.keeps_items, self._blocks = before, None
            self.kept_blocks.clear()

    def _kept_items(self) -> ItemBlocks | None:
        if not self.keeps_items or not self.builder.template.is_shared:
            return None
        if self._blocks is None:
            rows = self._slot_table if self.config.item_vectors else None
            self._blocks = ItemBlocks(self._lm, self.builder, self._item_vectors(), rows, self.kept_blocks)
        return self._blocks

    def _item_vectors(self, table: Float[Tensor, "items columns"] | None = None) -> Vectors | None:
        """Gives O_i of items by number."""
        if not self.config.item_vectors:
            return None
        rows = self._slot_table if table is None else table
        return lambda numbers: self.items(self.slots(rows[torch.from_numpy(numbers).to(rows.device)]))

    def losses(
        self,
        queries: Sequence[Query],
        candidates: Sequence[Int[np.ndarray, " _candidates"]],
        targets: Int[np.ndarray, " batch"],
        title: bool,
        select: bool,
        vectors: Float[Tensor, "items columns"] | None = None,
    ) -> StageTwoLosses:
        """Both terms, from one forward pass where they read the same layer.

        Args:
            queries, candidates: the batch.
            targets: place of the target among each query's candidates.
            title: compute the paper's loss, cross-entropy on the tokens of the target's title and its EOS.
            select: compute the pointer head's cross-entropy over the candidates.
            vectors: a `slot_table` to use in place of the ranker's own.
        """
        states = self.user_states(queries)
        layers = self.config.pointer.layers
        shared = title and select and layers in (None, self._lm.depth)
        title_loss = select_loss = None
        hidden, spliced = None, None
        if title and self.builder.template.is_shared:
            users = self.users(states) if self.config.user_vector else None
            title_loss = shared_title_loss(
                self._lm, self.builder, users, self._item_vectors(vectors), candidates, targets
            )
        elif title:
            items = [int(c[t]) for c, t in zip(candidates, targets, strict=True)]
            answers = [[*self.builder.titles[i], self._lm.eos_id] for i in items]
            prompts = self.prompts(queries, candidates, max(map(len, answers)))
            spliced = self.spliced(prompts, states, [a[:-1] for a in answers], vectors)
            hidden = self._read(spliced, None)
            title_loss = mean_title_loss(self._lm, hidden, [len(p) for p in prompts], answers)
        if select:
            if not shared or hidden is None or spliced is None:
                spliced = self.spliced(self.prompts(queries, candidates), states, None, vectors)
                hidden = self._read(spliced, layers)
            logits = self._pointed(hidden, spliced, queries, candidates)
            wanted = torch.from_numpy(targets).to(logits.device)
            select_loss = nn.functional.cross_entropy(logits, wanted)
        return StageTwoLosses(title_loss, select_loss)

    @property
    def can_copy(self) -> bool:
        """Whether `copying_loss` can be had: the list is shared, and users and items have slots."""
        return self.builder.template.is_shared and self.config.user_vector and self.config.item_vectors

    def copying_loss(self, items: Int[np.ndarray, " items"], noise: Float[Tensor, "items d"]) -> Float[Tensor, ""]:
        """The title loss of users whose vectors are the CF vectors of the listed items, with noise; see `CopyingConfig`.

        Args:
            items: item numbers; each is the list's and once the target.
            noise: for each, in standard deviations of a component over the items.
        """
        with torch.no_grad():
            vectors = self.backbone.item_vectors()
            own = vectors[torch.from_numpy(items).to(vectors.device)]
            states = (own + noise.to(own) * vectors[1:].std(dim=0)).to(self._lm.device)
        lists = [items] * len(items)
        return shared_title_loss(
            self._lm, self.builder, self.users(states), self._item_vectors(), lists, np.arange(len(items))
        )

    def _read(self, prompts: SplicedPrompts, layers: int | None) -> Float[Tensor, "batch tokens dim"]:
        """The language model's hidden states; without any layer what it would have read."""
        if layers == 0:
            return prompts.embeddings
        return self._lm.hidden(prompts.embeddings, prompts.visible, prompts.positions, layers)

    def _pointed(
        self,
        hidden: Float[Tensor, "batch tokens dim"],
        prompts: SplicedPrompts,
        queries: Sequence[Query],
        candidates: Sequence[Int[np.ndarray, " _candidates"]],
    ) -> Float[Tensor, "batch candidates"]:
        cf_scores, fused = self.prior_scores.read(queries, candidates, self._lm.device)
        return self.head.read(hidden.float(), prompts, cf_scores, fused)
