"""Exact likelihood of every candidate's title, in one forward pass where the model can, and the loss on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.splicing import SplicedPrompts

__all__ = ["TitleTree", "likelihoods_of", "mean_title_loss", "title_log_likelihoods"]

# About a megabyte of logits.
_NUMBERS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class TitleTree:
    """The candidates' titles, each ended by EOS, as a prefix tree behind the prompt.

    A node is a token that something follows; leaves are never read by the model, only predicted. Parents come before
    their children.

    Attributes:
        tokens: each node's token.
        parents: each node's parent node, -1 for the prompt's end.
        steps_from, steps_token: every predicted token of every title: from which node (-1: the prompt's end), and which.
        steps_title: to which candidate the step belongs.
        titles: number of candidates.
    """

    tokens: Int[np.ndarray, " nodes"]
    parents: Int[np.ndarray, " nodes"]
    steps_from: Int[np.ndarray, " steps"]
    steps_token: Int[np.ndarray, " steps"]
    steps_title: Int[np.ndarray, " steps"]
    titles: int

    @classmethod
    def build(cls, titles: Sequence[Sequence[int]], eos: int) -> TitleTree:
        """Share the common beginnings of titles; a title that begins another one is told apart by its EOS."""
        nodes: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        steps: list[tuple[int, int, int]] = []
        for number, title in enumerate(titles):
            at = -1
            for token in title:
                steps.append((at, token, number))
                if (at, token) not in nodes:
                    nodes[at, token] = len(tokens)
                    tokens.append(token)
                    parents.append(at)
                at = nodes[at, token]
            steps.append((at, eos, number))
        origins, predicted, owners = np.asarray(steps, dtype=np.int64).reshape(-1, 3).T
        return cls(
            tokens=np.asarray(tokens, dtype=np.int64),
            parents=np.asarray(parents, dtype=np.int64),
            steps_from=origins,
            steps_token=predicted,
            steps_title=owners,
            titles=len(titles),
        )

    @property
    def depths(self) -> Int[np.ndarray, " nodes"]:
        """How many nodes stand above each node."""
        depths = np.zeros(len(self.tokens), dtype=np.int64)
        for node, parent in enumerate(self.parents):
            depths[node] = 0 if parent < 0 else depths[parent] + 1
        return depths

    def branches(self) -> list[list[int]]:
        """The nodes from the prompt's end down to each leaf."""
        leaves = np.setdiff1d(np.arange(len(self.tokens)), self.parents)
        found = []
        for leaf in leaves.tolist():
            branch = [leaf]
            while self.parents[branch[-1]] >= 0:
                branch.append(int(self.parents[branch[-1]]))
            found.append(branch[::-1])
        return found

    def ancestry(self) -> np.ndarray:
        """[nodes, nodes]: whether the second is the first or stands above it."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def title_log_likelihoods(
    lm: LanguageModel, prompts: SplicedPrompts, trees: Sequence[TitleTree]
) -> list[Float[Tensor, "_titles _tokens"]]:
    """Log-probability of each token of each candidate's title and its EOS, after its row's prompt.

    The nodes of a row's tree are put behind its prompt; each sees the prompt and its own ancestors only, at the
    position that it would have if its title stood there alone. Logits are taken at the nodes and the prompt's end only.
    A language model that reads no trees reads the titles one by one, to the same result.

    Args:
        lm: the language model.
        prompts: spliced prompts without answers.
        trees: one a row.

    Returns:
        For each row a matrix [titles, longest title + 1] with 0 behind a title's end; differentiable.

    Raises:
        ConfigError: prompts whose places see chosen places only, of a language model that reads no trees.
    """
    if not lm.reads_trees:
        return _one_by_one(lm, prompts, trees)
    device, rows = lm.device, len(trees)
    lengths = prompts.lengths.tolist()
    own_positions = prompts.positions.cpu().numpy()
    sees = None if prompts.visible is None else prompts.visible.cpu().numpy()
    total = max(length + len(tree.tokens) for length, tree in zip(lengths, trees, strict=True))
    ids = np.zeros((rows, total), dtype=np.int64)
    positions = np.zeros((rows, total), dtype=np.int64)
    visible = np.zeros((rows, total, total), dtype=bool)
    read_rows: list[int] = []
    read_columns: list[int] = []
    starts: list[int] = []
    for row, (length, tree) in enumerate(zip(lengths, trees, strict=True)):
        nodes = len(tree.tokens)
        end = length + nodes
        ids[row, length:end] = tree.tokens
        positions[row, :length] = own_positions[row, :length]
        positions[row, length:] = own_positions[row, length - 1] + 1
        positions[row, length:end] += tree.depths
        visible[row, :length, :length] = np.tri(length, dtype=bool) if sees is None else sees[row, :length, :length]
        visible[row, length:end, :length] = True
        visible[row, length:end, length:end] = tree.ancestry()
        # A padded place sees itself: a row of the softmax may not be empty.
        visible[row, np.arange(end, total), np.arange(end, total)] = True
        starts.append(len(read_rows))
        read_rows += [row] * (nodes + 1)
        read_columns += range(length - 1, end)
    positions = np.minimum(positions, lm.max_tokens - 1)
    embeddings = lm.embed(torch.from_numpy(ids))
    prompt_width = min(prompts.embeddings.shape[1], total)
    own = torch.arange(prompt_width, device=device)[None, :] < prompts.lengths[:, None]
    front = torch.where(own[..., None], prompts.embeddings[:, :prompt_width], embeddings[:, :prompt_width])
    embeddings = torch.cat([front, embeddings[:, prompt_width:]], dim=1)
    hidden = lm.hidden(embeddings, torch.from_numpy(visible).to(device), torch.from_numpy(positions).to(device))
    read = hidden[torch.tensor(read_rows, device=device), torch.tensor(read_columns, device=device)]
    return [
        likelihoods_of(lm, read[starts[row] : starts[row] + len(tree.tokens) + 1], tree)
        for row, tree in enumerate(trees)
    ]


def _one_by_one(
    lm: LanguageModel, prompts: SplicedPrompts, trees: Sequence[TitleTree]
) -> list[Float[Tensor, "_titles _tokens"]]:
    """The same of a language model that reads texts in their order alone, a branch of the tree at a time."""
    if prompts.visible is not None:
        raise ConfigError(
            f"{lm.name} reads texts in their order alone, and these prompts list items in parallel. Use the prompt's form "
            "`paper`, or another language model."
        )
    device = lm.device
    found = []
    for row, tree in enumerate(trees):
        prompt = prompts.embeddings[row, : int(prompts.lengths[row])]
        branches = tree.branches() or [[]]
        ids = np.zeros((len(branches), max(1, *map(len, branches))), dtype=np.int64)
        read_rows, read_columns = (np.zeros(len(tree.tokens), dtype=np.int64) for _ in range(2))
        for number, branch in enumerate(branches):
            ids[number, : len(branch)] = tree.tokens[branch]
            read_rows[branch] = number
            read_columns[branch] = np.arange(len(branch))
        end, hidden = lm.branches(prompt, lm.embed(torch.from_numpy(ids)))
        nodes = hidden[torch.from_numpy(read_rows).to(device), torch.from_numpy(read_columns).to(device)]
        found.append(likelihoods_of(lm, torch.cat([end[None], nodes]), tree))
    return found


def likelihoods_of(
    lm: LanguageModel, places: Float[Tensor, "nodes hidden"], tree: TitleTree
) -> Float[Tensor, "titles tokens"]:
    """Log-probability of each token of each title of a tree.

    Args:
        lm: the language model.
        places: hidden states at the prompt's end and at each node of the tree, in this order.
        tree: the titles.
    """
    logits = lm.logits(places).float()
    # Place 0 is the prompt's end, so node n is place n + 1.
    at = torch.from_numpy(tree.steps_from + 1).to(logits.device)
    token = torch.from_numpy(tree.steps_token).to(logits.device)
    return _by_title(logits[at, token] - _normalisers(logits)[at], tree)


def mean_title_loss(
    lm: LanguageModel,
    hidden: Float[Tensor, "batch tokens dim"],
    lengths: Sequence[int],
    answers: Sequence[Sequence[int]],
) -> Float[Tensor, ""]:
    """Cross-entropy of the answers' tokens, the mean over all of them (paper, section 3.2).

    Logits are taken where an answer's token is predicted only: at every place they would be gigabytes.

    Args:
        lm: the language model.
        hidden: hidden states of each prompt with its answer behind it, the answer's last token left out.
        lengths: tokens of each prompt alone.
        answers: tokens of each answer, its end included.
    """
    counts = np.asarray([len(a) for a in answers])
    rows = np.repeat(np.arange(len(answers)), counts)
    columns = np.concatenate([n - 1 + np.arange(count) for n, count in zip(lengths, counts, strict=True)])
    device = hidden.device
    places = hidden[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)]
    labels = torch.tensor([token for answer in answers for token in answer], device=device)
    return nn.functional.cross_entropy(lm.logits(places).float(), labels)


def _normalisers(logits: Float[Tensor, "places vocabulary"]) -> Float[Tensor, " places"]:
    """The logarithm of each row's sum of exponentials; on a CPU a few rows at a time, whose exponentials stay in its cache."""
    if logits.device.type != "cpu":
        return torch.logsumexp(logits, dim=-1)
    rows = max(1, _NUMBERS_AT_ONCE // logits.shape[-1])
    return torch.cat([torch.logsumexp(part, dim=-1) for part in torch.split(logits, rows)])


def _by_title(steps: Float[Tensor, " steps"], tree: TitleTree) -> Float[Tensor, "titles tokens"]:
    """Steps in one row a title."""
    counts = np.bincount(tree.steps_title, minlength=tree.titles)
    columns = np.arange(len(tree.steps_title)) - np.repeat(np.cumsum(counts) - counts, counts)
    matrix = steps.new_zeros(tree.titles, int(counts.max()))
    rows = torch.from_numpy(tree.steps_title).to(steps.device)
    return matrix.index_put((rows, torch.from_numpy(columns).to(steps.device)), steps)
