"""What a language model is probed with: a prompt, and branches behind it, each by itself and all as a tree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from allmrec.llm.reading import Reader

__all__ = ["NODES", "Samples", "samples"]

# The tree: each node's parent, -1 for the prompt's end. Branches lie between one another, so that a node's place in
# the row is not its place on its branch.
_PARENTS = (-1, 0, -1, 0, 2, 3)
_LEAVES = (1, 4, 5)
# Places of the tree behind the prompt.
NODES = len(_PARENTS)


@dataclass(frozen=True)
class Samples:
    """A prompt, its branches each on its own, and the same as a tree.

    Attributes:
        alone: tokens of prompt and branch, one row a leaf, padded on the right by repeating.
        tree: tokens of the prompt and all nodes.
        positions: position numbers in the tree.
        visible: what each of its places sees.
        rows, columns: where each node is read alone, the prompt's end first.
        prompt: tokens of the prompt.
    """

    alone: Tensor
    tree: Tensor
    positions: Tensor
    visible: Tensor
    rows: Tensor
    columns: Tensor
    prompt: int


def samples(reader: Reader, prompt: int) -> Samples:
    """Samples of a model's own tokens.

    Args:
        reader: the model.
        prompt: tokens of the prompt.
    """
    weight = reader.model.get_input_embeddings().weight
    device, count = weight.device, len(weight)
    # Distinct tokens, none of the first few, which often are special ones.
    spread = max(1, (count - 10) // (prompt + NODES + 1))
    tree = (10 + spread * torch.arange(prompt + NODES, device=device)) % count
    above = torch.eye(NODES, dtype=torch.bool)
    depths = torch.zeros(NODES, dtype=torch.long)
    for node, parent in enumerate(_PARENTS):
        if parent >= 0:
            above[node] |= above[parent]
            depths[node] = depths[parent] + 1
    branches = [torch.nonzero(above[leaf])[:, 0] for leaf in _LEAVES]
    longest = max(map(len, branches))
    padded = torch.stack([torch.cat([b, b[-1:].expand(longest - len(b))]) for b in branches]).to(device)
    alone = torch.cat([tree[:prompt].expand(len(branches), -1), tree[prompt + padded]], dim=1)
    rows = [next(row for row, branch in enumerate(branches) if node in branch) for node in range(NODES)]
    visible = torch.ones(prompt + NODES, prompt + NODES, dtype=torch.bool).tril()
    visible[prompt:, prompt:] = above
    return Samples(
        alone=alone,
        tree=tree[None],
        positions=torch.cat([torch.arange(prompt), prompt + depths])[None].to(device),
        visible=visible[None].to(device),
        rows=torch.tensor([0, *rows], device=device),
        columns=torch.cat([torch.tensor([prompt - 1]), prompt + depths]).to(device),
        prompt=prompt,
    )
