"""LLM-SRec: user and item vectors from a frozen language model that hears what a CF model knows of a history's order."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.baselines.llm_srec_prompts import LLMSRecPrompts, LLMSRecWords
from allmrec.cf.backbone import Backbone, check_numbers
from allmrec.core.errors import ArtifactError
from allmrec.core.grouping import length_groups
from allmrec.core.progress import progress_bar
from allmrec.core.seeding import seeded_torch
from allmrec.core.tensors import as_tensors, expected, filled
from allmrec.core.training import TrainingConfig
from allmrec.data.batching import SequenceBatch
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.projections import Projection, ProjectionConfig
from allmrec.prompting.splicing import splice
from allmrec.prompting.tokenising import TitleTokens, TokenisedPrompt
from allmrec.recommend.samples import SampleConfig

__all__ = ["LLMSRec", "LLMSRecConfig"]

# Padding places that a further forward pass must save, and prompts in one without gradients.
_WORTH_A_PASS, _IN_A_PASS = 256, 32


class LLMSRecConfig(SampleConfig):
    """How LLM-SRec reads and is trained. Where nothing else is said the defaults are the paper's or its program's."""

    candidates: int = Field(
        4, ge=2, description="Items of a training sample, the target included; 3 negatives in the program."
    )
    compete: Literal["own", "batch"] = Field(
        "own",
        description="Which items compete for a sample's target: its own negatives (paper), or every item of the batch that the "
        "user has not met in training, with scores corrected for how likely each item was to stand there (ours).",
    )
    words: LLMSRecWords = LLMSRecWords()
    max_history: int = Field(10, ge=1, description="Most recent items of a history that the language model reads.")
    title_tokens: int = Field(24, ge=1, description="Tokens of a title; longer ones are cut.")
    prompt_tokens: int = Field(1024, ge=16, description="Tokens of a prompt; the oldest history is dropped first.")
    layers: int | None = Field(
        None, ge=1, description="Layers of the language model that are run, from the first on; none: all (paper)."
    )
    dim: int = Field(128, ge=1, description="Length of user and item vectors.")
    hidden: int = Field(2048, ge=1, description="Width of the hidden layer of f_user and f_item.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout before the second layer of f_user, f_item and the projection."
    )
    standardise: bool = Field(
        True,
        description="Give the projection and the heads inputs of mean 0 and deviation 1 over some items and users. Hidden "
        "states share a few large directions, which a layer norm would take for all there is. A linear layer could undo "
        "it (ours; off in the program).",
    )
    scale: Literal["none", "tokens"] = Field(
        "tokens",
        description="Size of projected CF vectors at the start: that of a token embedding (ours), or as Xavier's "
        "initialisation leaves them (the program's).",
    )
    similarity: Literal["dot", "cosine"] = Field(
        "dot",
        description="Scores are dot products (paper), or cosines (ours): vectors have length 1, as in the distillation, so that "
        "large rates do no harm. Give cosines a temperature, such as 0.07.",
    )
    temperature: float = Field(1.0, gt=0, description="What scores are divided by in the retrieval loss.")
    distillation_weight: float = Field(1.0, ge=0, description="Weight of the distillation.")
    uniformity_weight: float = Field(1.0, ge=0, description="Weight of the uniformity of both sides.")
    validation_items: int = Field(
        200, ge=1, description="Random items that compete for validation items, beside other users' validation items."
    )
    training: TrainingConfig = TrainingConfig(
        learning_rate=1e-4, betas=(0.9, 0.98), batch_size=20, epochs=10, patience=5
    )


class LLMSRec(nn.Module):
    """LLM-SRec (Kim et al., KDD 2025): a `Backbone` whose vectors a frozen language model makes.

        x_u = f_user(h of [UserOut] behind the history's titles and F_I(E_i)),   v_i = f_item(h of [ItemOut] behind title and F_I(E_i))

    h is the last hidden state at that token, E the frozen CF model's item vectors, and the score is x_u · v_i. Trained are
    the two tokens' embeddings, F_I, both heads, and f_cf, which only the distillation reads. Item vectors are
    computed once and kept (`embed_catalogue`), so ranking the whole catalogue is one matrix product.

    From the paper: all of that. From its program: heads of a linear layer, layer norm, LeakyReLU and a linear layer, F_I of
    the same inside, f_cf with GELU and its output's length inside, Xavier's initialisation. Ours: inputs are standardised, the
    projected vectors start with the size of a token embedding, and fewer layers may be run.

    Args:
        lm: the language model; neither copied nor changed.
        backbone: the CF model, frozen.
        titles: by item number, entry 0 unused.
        config: prompts and sizes.
        seed: of the initialisation.

    Raises:
        ConfigError: the language model cannot be cut after so many layers.
    """

    cf_items: Tensor
    table: Tensor

    def __init__(
        self,
        lm: LanguageModel,
        backbone: Backbone,
        titles: Sequence[str | None],
        config: LLMSRecConfig,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if config.layers is not None:
            lm.check_layers(config.layers)
        self.config = config
        self._lm = lm
        untitled = f"untitled {config.words.words.noun}"
        shown = TitleTokens(titles, lm, config.title_tokens, untitled)
        limit = min(config.prompt_tokens, lm.max_tokens)
        self.prompts = LLMSRecPrompts(lm, shown, config.words, config.max_history, limit)
        vectors = backbone.item_vectors().detach().float()
        plain = ProjectionConfig(hidden=config.hidden, dropout=config.dropout, scale="none")
        into = ProjectionConfig(dropout=config.dropout, scale=config.scale)
        of_cf = ProjectionConfig(hidden=config.dim, scale="none")
        with seeded_torch(seed, "llm-srec"):
            self.user_out = nn.Parameter(torch.randn(lm.dim) * lm.embedding_scale)
            self.item_out = nn.Parameter(torch.randn(lm.dim) * lm.embedding_scale)
            self.items = Projection(vectors.shape[1], lm.dim, into, nn.LeakyReLU(), lm.embedding_scale)
            self.user_head = Projection(lm.hidden_dim, config.dim, plain, nn.LeakyReLU(), 1.0)
            self.item_head = Projection(lm.hidden_dim, config.dim, plain, nn.LeakyReLU(), 1.0)
            self.cf_head = Projection(vectors.shape[1], config.dim, of_cf, nn.GELU(), 1.0)
        if config.standardise:
            self.items.standardise(vectors[1:])
        # Neither is trained: the CF model's vectors, and what `embed_catalogue` made.
        self.register_buffer("cf_items", vectors, persistent=False)
        self.register_buffer("table", torch.zeros(0, config.dim), persistent=False)
        self.to(lm.device)
        self.eval()

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray | Tensor],
        lm: LanguageModel,
        backbone: Backbone,
        titles: Sequence[str | None],
        config: LLMSRecConfig,
    ) -> LLMSRec:
        """Build one from its `tensors`, the same language model, CF model and config.

        Raises:
            ArtifactError: a parameter is missing, superfluous or of another shape.
        """
        made, tensors = cls(lm, backbone, titles, config), as_tensors(arrays)
        kept = expected(tensors, {"table": ("float", (made.n_items + 1, config.dim))})["table"]
        parameters = {name: tensor for name, tensor in tensors.items() if name != "table"}
        filled(made, parameters, f"LLM-SRec on {lm.name}")
        made.table = kept.to(made.table)
        return made

    def tensors(self) -> dict[str, Tensor]:
        """What to store: trained parameters, and the item vectors that they make.

        Raises:
            ArtifactError: there are no item vectors yet.
        """
        if len(self.table) != self.n_items + 1:
            raise ArtifactError("LLM-SRec has no item vectors to store; call embed_catalogue() first.")
        return {**self.state_dict(), "table": self.table}

    @property
    def lm(self) -> LanguageModel:
        """The frozen language model."""
        return self._lm

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.config.dim

    @property
    def max_history(self) -> int:
        """How many of the most recent items are read."""
        return self.config.max_history

    @property
    def n_items(self) -> int:
        """Number of items, the padding not counted."""
        return len(self.cf_items) - 1

    def item_vectors(self) -> Float[Tensor, "rows dim"]:
        """v of every item number, row 0 zeros; those that `embed_catalogue` made, at the first call if nobody called it."""
        if len(self.table) != self.n_items + 1:
            self.embed_catalogue()
        return self.table

    @torch.no_grad()
    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch dim"]:
        """x_u of each history. Who the user is does not count, and neither do items before the last `max_history`.

        Raises:
            UnknownIdError: a history holds a number that is no item of the model.
        """
        check_numbers(batch, self.n_items)
        return self.encode_users([row[row > 0] for row in batch.histories])

    @torch.no_grad()
    def embed_catalogue(self) -> None:
        """Compute every item's vector with the weights as they are, and keep them."""
        self.table = self.table.new_zeros(0, self.dim)
        self.table = torch.cat([self.table.new_zeros(1, self.dim), self._items_from(1)])

    def with_new_items(self, titles: Sequence[str | None]) -> LLMSRec:
        """The same model, its weights shared, with new items behind the others; this one stays as it is.

        A new item is known by its title alone: in the place of its CF vector stands the mean over the catalogue, which is 0 once it is
        standardised.

        Args:
            titles: of the new items.
        """
        known, other = self.item_vectors(), copy.copy(self)
        # Buffers of its own; parameters and heads stay shared.
        other._buffers = dict(self._buffers)
        other.prompts = self.prompts.with_titles(titles)
        mean = self.cf_items[1:].mean(dim=0, keepdim=True)
        other.cf_items = torch.cat([self.cf_items, mean.expand(len(titles), -1)])
        with torch.no_grad():
            other.table = torch.cat([known, other._items_from(self.n_items + 1)])
        return other

    def encode_users(self, histories: Sequence[Int[np.ndarray, " _length"]]) -> Float[Tensor, "users dim"]:
        """x_u of each history, with gradients to what is trained."""
        return self._vectors(self.user_head(self.user_states(histories)))

    def encode_items(self, items: Int[np.ndarray, " items"]) -> Float[Tensor, "items dim"]:
        """v_i of each item, with gradients to what is trained."""
        return self._vectors(self.item_head(self.item_states(items)))

    def user_states(self, histories: Sequence[Int[np.ndarray, " _length"]]) -> Float[Tensor, "users hidden"]:
        """The language model's hidden state at [UserOut] behind each history."""
        return self._read([self.prompts.of_user(history) for history in histories], self.user_out)

    def item_states(self, items: Int[np.ndarray, " items"]) -> Float[Tensor, "items hidden"]:
        """The language model's hidden state at [ItemOut] behind each item."""
        return self._read([self.prompts.of_item(int(item)) for item in items], self.item_out)

    @torch.no_grad()
    def standardise(self, histories: Sequence[Int[np.ndarray, " _length"]], items: Int[np.ndarray, " items"]) -> None:
        """Take mean and deviation of the heads' inputs from some histories and items, with the weights as they are."""
        self.user_head.standardise(self.user_states(histories))
        self.item_head.standardise(self.item_states(items))

    def _vectors(self, projected: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        return F.normalize(projected, dim=1) if self.config.similarity == "cosine" else projected

    def _items_from(self, first: int) -> Float[Tensor, "items dim"]:
        """v of all items from one number on, some at a time."""
        parts = []
        with progress_bar("LLM-SRec: items", self.n_items + 1 - first) as bar:
            for start in range(first, self.n_items + 1, 8 * _IN_A_PASS):
                numbers = np.arange(start, min(start + 8 * _IN_A_PASS, self.n_items + 1))
                parts.append(self.encode_items(numbers))
                bar.advance(len(numbers))
        return torch.cat(parts) if parts else self.table.new_zeros(0, self.dim)

    def _read(self, prompts: Sequence[TokenisedPrompt], out: Float[Tensor, " dim"]) -> Float[Tensor, "prompts hidden"]:
        """The hidden state at each prompt's last place, where `out` stands.

        Prompts of like length are read together: padding stands on the right, where nothing real sees it.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        largest = None if torch.is_grad_enabled() else _IN_A_PASS
        worth = _WORTH_A_PASS if self._lm.device.type == "cpu" else None
        groups = length_groups(lengths, worth=worth, largest=largest)
        if not groups:
            return out.new_zeros(0, self._lm.hidden_dim)
        parts = [self._read_group([prompts[n] for n in rows], out) for rows in groups]
        back = np.empty(len(prompts), dtype=np.int64)
        back[np.concatenate(groups)] = np.arange(len(prompts))
        return torch.cat(parts)[torch.from_numpy(back).to(out.device)]

    def _read_group(
        self, prompts: Sequence[TokenisedPrompt], out: Float[Tensor, " dim"]
    ) -> Float[Tensor, "prompts hidden"]:
        slots = torch.from_numpy(np.concatenate([prompt.history for prompt in prompts])).to(out.device)
        vectors = self.items(self.cf_items[slots])
        spliced = splice(prompts, self._lm, out.expand(len(prompts), -1), vectors)
        hidden = self._lm.hidden(spliced.embeddings, None, spliced.positions, self.config.layers)
        rows = torch.arange(len(prompts), device=hidden.device)
        return hidden[rows, spliced.user_at.to(hidden.device)].float()
