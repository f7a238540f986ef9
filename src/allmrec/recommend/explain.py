"""Says in words what an item is, why it fits a user, or what the user likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import nn

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.progress import progress_bar
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.questions import GENRES, PROFILE, REASON, ItemQuestion, Question, UserQuestion
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.prompting.tokenising import PromptBuilder, TokenisedPrompt
from allmrec.ranking import Query
from allmrec.recommend.generate import greedy_answers, greedy_tokens
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["ExplainConfig", "Explainer", "PromptReader", "text_pieces"]

_Embed = Callable[[Sequence[TokenisedPrompt], Sequence[Query]], SplicedPrompts]


class ExplainConfig(Config):
    """What is asked about a recommended item or a user, and how long the answer may get."""

    genres: ItemQuestion = Field(GENRES, description="Asks for the item's genres.")
    reason: ItemQuestion = Field(REASON, description="Asks why the item fits this user.")
    profile: UserQuestion = Field(PROFILE, description="Asks which genres this user likes, without an item.")
    max_new_tokens: int = Field(40, ge=1, description="Tokens of an answer at the most.")
    repetition_penalty: float = Field(
        1.2, gt=0, description="Makes tokens that the answer already holds less likely; 1: not at all."
    )


@runtime_checkable
class PromptReader(Protocol):
    """A language model, the prompts that it reads, and what stands in their slots: vectors, or nothing."""

    @property
    def lm(self) -> LanguageModel:
        """The language model."""
        ...

    @property
    def builder(self) -> PromptBuilder:
        """Builds the prompts that it recommends by."""
        ...

    def embedded(self, prompts: Sequence[TokenisedPrompt], queries: Sequence[Query]) -> SplicedPrompts:
        """Prompts as the language model reads them, one a query."""
        ...


class Explainer:
    """Lets the language model speak about one item or about the user, in the prompt that it recommends by.

    Nothing is trained for it: projections that were taught to recommend are read by a language model that is asked
    something else (as the paper does with free text). Titles stand in the prompt, so what is said may come from them
    alone, and it is not the cause of a recommendation. `evaluation.genres` measures what the vectors add.

    Args:
        reader: A-LLMRec's stage 2; or a system that reads the same words without slots, to compare with.
        question: what to ask; none: the config's `genres`.
        config: lengths.
    """

    def __init__(
        self, reader: PromptReader, question: Question | None = None, config: ExplainConfig | None = None
    ) -> None:
        self._reader, self._config = reader, config or ExplainConfig()
        self._question = question or self._config.genres
        own = reader.builder
        self._builder = PromptBuilder(own.template.asking(self._question), own.budget, reader.lm, ())
        # The recommender's own titles: tokenised once, and new items among them.
        self._builder.titles = own.titles
        if isinstance(reader, nn.Module):
            reader.eval()

    def stream(self, query: Query, item: int | None = None) -> Iterator[str]:
        """The answer's first line, piece by piece as it is decoded; joined, the pieces are what `texts` gives.

        Args:
            query: whom for.
            item: the item that is spoken of; none where the question is about the user.

        Raises:
            ConfigError: the prompt does not fit.
        """
        lm, config = self._reader.lm, self._config
        with torch.inference_mode():
            prompts = self._reader.embedded([self._prompt(query, item)], [query])
        steps = greedy_tokens(lm, prompts, [config.max_new_tokens], config.repetition_penalty)
        tokens = (token for step in steps for _, token, _ in step if token != lm.eos_id)
        yield from _first_line(text_pieces(lm, tokens))

    def texts(
        self,
        queries: Sequence[Query],
        items: Sequence[int] | None = None,
        batch_size: int = 8,
        shuffle: np.random.Generator | None = None,
        description: str = "",
    ) -> list[str]:
        """The answers' first lines, many at a time.

        Args:
            queries: whom for.
            items: for each, the item that is spoken of; none where the question is about the user.
            batch_size: answers that are decoded together.
            shuffle: give every query another one's user vector and every item's slot another one's content, with the
                words as they are. What is then said as well was not said because of the vectors.
            description: what a progress bar says; empty: there is none.

        Raises:
            ConfigError: a prompt does not fit, or there is nobody to exchange vectors with.
        """
        lm, config = self._reader.lm, self._config
        spoken_of = [None] * len(queries) if items is None else items
        prompts = [self._prompt(query, item) for query, item in zip(queries, spoken_of, strict=True)]
        if not prompts:
            return []
        whose = list(queries)
        embed: _Embed = self._reader.embedded
        if shuffle is not None:
            whose = [queries[n] for n in _others(len(queries), shuffle)]
            embed = self._embed_with_others(shuffle)
        texts: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        with progress_bar(description, len(order), silent=not description) as bar:
            for start in range(0, len(order), batch_size):
                numbers = order[start : start + batch_size]
                with torch.inference_mode():
                    spliced = embed([prompts[n] for n in numbers], [whose[n] for n in numbers])
                limits = [config.max_new_tokens] * len(numbers)
                found = greedy_answers(lm, spliced, limits, config.repetition_penalty)
                texts |= {n: "".join(_first_line([answer.text])) for n, answer in zip(numbers, found, strict=True)}
                bar.advance(len(numbers))
        return [texts[n] for n in range(len(prompts))]

    def _prompt(self, query: Query, item: int | None) -> TokenisedPrompt:
        if isinstance(self._question, ItemQuestion) == (item is None):
            raise ValueError(f"{self._question!r} came with item {item}; only a question of an item needs one")
        shown = [] if item is None else [int(item)]
        return self._builder.build(query.history.tolist(), shown, self._config.max_new_tokens)

    def _embed_with_others(self, rng: np.random.Generator) -> _Embed:
        """Items' slots get what another item's slot carries, whole: vectors, and the count that a gate reads."""
        ranker = self._reader
        if not isinstance(ranker, PromptedRanker):
            raise ConfigError("Only A-LLMRec has vectors to exchange; this system reads words alone.")
        table = ranker.slot_table(ranker.joint)
        # Row 0 is padding and stays where it is.
        rows = np.concatenate([[0], 1 + _others(len(table) - 1, rng)])
        return partial(ranker.embedded, vectors=table[torch.from_numpy(rows).to(table.device)])


def text_pieces(lm: LanguageModel, tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens as they come, in pieces that join to what `detokenize` makes of all of them.

    A character may be several tokens, and a token's blank may depend on its neighbour, so everything so far is
    detokenised each time and a character that is not whole yet is held back.
    """
    read: list[int] = []
    said = 0
    text = ""
    for token in tokens:
        read.append(token)
        text = lm.detokenize(read)
        if not text.endswith("\ufffd") and len(text) > said:
            yield text[said:]
            said = len(text)
    if len(text) > said:
        yield text[said:]


def _first_line(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces up to the end of the first line that says anything, without blanks before it."""
    begun = False
    for piece in pieces:
        line, end, _ = (piece if begun else piece.lstrip()).partition("\n")
        begun = begun or bool(line)
        if line:
            yield line
        if begun and end:
            return


def _others(count: int, rng: np.random.Generator) -> Int[np.ndarray, " count"]:
    """For each number another one, each taken once: a random ring, in which everybody gets the next one's."""
    if count < 2:
        raise ConfigError(f"Vectors of {count} cannot be exchanged; give at least two queries and items.")
    ring = rng.permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[ring] = np.roll(ring, -1)
    return others
