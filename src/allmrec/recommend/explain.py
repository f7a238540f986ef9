"""Says in words what a recommended item is or why it fits a user; knows no file and judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.prompting.template import GENRES, REASON, ItemQuestion
from allmrec.prompting.tokenising import PromptBuilder, TokenisedPrompt
from allmrec.ranking import Query
from allmrec.recommend.generate import greedy_answers, greedy_tokens
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["ExplainConfig", "Explainer", "text_pieces"]


class ExplainConfig(Config):
    """What is asked about a recommended item, and how long the answer may get."""

    genres: ItemQuestion = Field(GENRES, description="Asks for the item's genres.")
    reason: ItemQuestion = Field(REASON, description="Asks why the item fits this user.")
    max_new_tokens: int = Field(40, ge=1, description="Tokens of an answer at the most.")
    repetition_penalty: float = Field(
        1.2, gt=0, description="Makes tokens that the answer already holds less likely; 1: not at all."
    )


class Explainer:
    """Lets the language model speak about one item, with the user's and the items' vectors in the prompt.

    Nothing is trained for it: projections that were taught to recommend are read by a language model that is asked
    something else (as the paper does with free text). The item's title stands in the prompt, so what is said may come
    from the title alone, and it is not the cause of the recommendation. `evaluation.genres` measures what the vectors
    add.

    Args:
        ranker: stage 2 with the frozen parts around it.
        question: what to ask; none: the config's `genres`.
        config: lengths.
    """

    def __init__(
        self, ranker: PromptedRanker, question: ItemQuestion | None = None, config: ExplainConfig | None = None
    ) -> None:
        self._ranker, self._config = ranker, config or ExplainConfig()
        asked = ranker.builder.template.asking(question or self._config.genres)
        self._builder = PromptBuilder(asked, ranker.builder.budget, ranker.lm, ())
        # The recommender's own titles: tokenised once, and new items among them.
        self._builder.titles = ranker.builder.titles
        ranker.eval()

    def stream(self, query: Query, item: int) -> Iterator[str]:
        """The answer's first line, piece by piece as it is decoded; joined, the pieces are what `texts` gives.

        Raises:
            ConfigError: the prompt does not fit.
        """
        ranker, config = self._ranker, self._config
        prompts = self._spliced([self._prompt(query, item)], ranker.user_states([query]), None)
        steps = greedy_tokens(ranker.lm, prompts, [config.max_new_tokens], config.repetition_penalty)
        tokens = (token for step in steps for _, token, _ in step if token != ranker.lm.eos_id)
        yield from _first_line(text_pieces(ranker.lm, tokens))

    def texts(
        self,
        queries: Sequence[Query],
        items: Sequence[int],
        batch_size: int = 8,
        shuffle: np.random.Generator | None = None,
    ) -> list[str]:
        """The answers' first lines, many at a time.

        Args:
            queries: whom for.
            items: for each, the item that is spoken of.
            batch_size: answers that are decoded together.
            shuffle: give every query another one's user vector and every item another one's joint vector, with the
                words as they are. What is then said as well was not said because of the vectors.

        Raises:
            ConfigError: a prompt does not fit, or there is nobody to exchange vectors with.
        """
        ranker, config = self._ranker, self._config
        prompts = [self._prompt(query, item) for query, item in zip(queries, items, strict=True)]
        if not prompts:
            return []
        states, vectors = ranker.user_states(queries), None
        if shuffle is not None:
            states = states[torch.from_numpy(_others(len(queries), shuffle)).to(states.device)]
            table = ranker.joint.vectors().to(ranker.lm.device).float()
            # Row 0 is padding and stays where it is.
            rows = np.concatenate([[0], 1 + _others(len(table) - 1, shuffle)])
            vectors = table[torch.from_numpy(rows).to(table.device)]
        texts: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            spliced = self._spliced([prompts[n] for n in numbers], states[numbers], vectors)
            limits = [config.max_new_tokens] * len(numbers)
            found = greedy_answers(ranker.lm, spliced, limits, config.repetition_penalty)
            texts |= {n: "".join(_first_line([answer.text])) for n, answer in zip(numbers, found, strict=True)}
        return [texts[n] for n in range(len(prompts))]

    def _prompt(self, query: Query, item: int) -> TokenisedPrompt:
        return self._builder.build(query.history.tolist(), [int(item)], self._config.max_new_tokens)

    @torch.inference_mode()
    def _spliced(
        self,
        prompts: Sequence[TokenisedPrompt],
        states: Float[Tensor, "batch d"],
        vectors: Float[Tensor, "items joint"] | None,
    ) -> SplicedPrompts:
        return self._ranker.spliced(prompts, states, None, vectors)


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
