"""What a language model can, found out at load by reading a dozen tokens in several ways.

Attention, recurrence and convolutions, positions, windows and what is done to logits differ from family to family and from
version to version. So nothing here goes by names: what is to be equal is computed both ways on the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allmrec.core.errors import ConfigError
from allmrec.llm.cutting import first_layers, last_states
from allmrec.llm.decoding import CachedDecoding
from allmrec.llm.language_model import KeysAndValues
from allmrec.llm.reading import Reader, Way
from allmrec.llm.samples import NODES, Samples, samples

__all__ = ["Facts", "agree", "found_out"]

# Tokens of the probe's prompt, and what every window is shortened to meanwhile, so that the prompt is longer.
_PROMPT, _WINDOW = 6, 3
# Configurations' words for layers that look at a part of the text only; the longest that is tried in full.
_LOCAL = ("window", "chunk", "local")
_LONGEST = 2100


@dataclass(frozen=True)
class Facts:
    """What was found out.

    Attributes:
        trees: a mask and position numbers decide what a place reads, so that titles can be read as a tree.
        keeps: keys and values of places that were read can be taken out and put before others.
        decodes: texts are continued behind a cache as they would be read anew, padded rows among them.
        shares: one prompt's cache can be doubled and continued in several ways.
        hidden_dim: numbers of a hidden state.
    """

    trees: bool
    keeps: bool
    decodes: bool
    shares: bool
    hidden_dim: int


@torch.no_grad()
def found_out(reader: Reader) -> Facts:
    """Find the way that a model is read and its logits are made, set it in `reader`, and say what else it can.

    Raises:
        ConfigError: it cannot be read as the pipeline does; the message says why.
    """
    probed = samples(reader, _PROMPT)
    _find_reading(reader, probed)
    with _short_windows(reader, probed) as left:
        hidden = _whole(reader, probed)
        alone = reader.head(hidden[probed.rows, probed.columns])
        trees = _find_trees(reader, probed, alone)
        facts = Facts(
            trees=trees,
            keeps=trees and _agrees(reader, alone, lambda: reader.head(_behind(reader, probed))),
            decodes=_decodes(reader, probed, hidden),
            shares=not trees and _agrees(reader, alone, lambda: reader.head(_shared(reader, probed))),
            hidden_dim=hidden.shape[-1],
        )
    if trees and not _long_trees(reader, left):
        return replace(facts, trees=False, keeps=False)
    return facts


@torch.no_grad()
def cut_body(reader: Reader, layers: int) -> nn.Module:
    """The model's body with its first `layers` layers, sharing every weight with the whole.

    Raises:
        ConfigError: the body cannot be cut, or what it reads up to there is not what the whole reads.
    """
    depth, name = int(reader.config.num_hidden_layers), reader.name
    twin = first_layers(reader.body, depth, layers, name)
    probed = samples(reader, _PROMPT)
    embeddings = reader.embed(probed.alone)
    positions = torch.arange(embeddings.shape[1], device=embeddings.device).expand(len(embeddings), -1)

    def states(body: nn.Module) -> Tensor:
        read = last_states(
            reader.body, depth, layers, name, lambda: reader.read(embeddings, positions, body=body).last_hidden_state
        )
        return read.flatten(0, -2)

    whole = _tried(lambda: states(reader.body))
    cut = _tried(lambda: states(twin))
    if not isinstance(whole, Tensor) or not isinstance(cut, Tensor) or not agree(cut, whole, _is_exact(reader)):
        raise ConfigError(
            f"{name} ({type(reader.model).__name__}) cannot be cut after layer {layers}: its first layers alone read "
            f"otherwise than within the whole. Run all {depth}."
        )
    return twin


def agree(found: Float[Tensor, "places numbers"], expected: Float[Tensor, "places numbers"], exact: bool) -> bool:
    """Whether two ways to the same numbers came to the same.

    Args:
        found, expected: numbers, such as logits.
        exact: they were computed in float32. Otherwise rounding alone moves them by hundredths.
    """
    # What a model rules out has the lowest logit that there is, which would hide all else.
    a, b = found.float().clamp_min(-1e4), expected.float().clamp_min(-1e4)
    if a.shape != b.shape or not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return False
    b = b - b.mean(dim=-1, keepdim=True)
    a = a - a.mean(dim=-1, keepdim=True)
    # At every place alone, for a fault may concern a few of them.
    errors = (a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-9)
    return float(errors.max()) <= (1e-3 if exact else 0.15)


def _find_reading(reader: Reader, probed: Samples) -> None:
    """Have embeddings in, logits out give what the model itself gives on tokens."""
    model, kind = reader.model, type(reader.model).__name__
    real = torch.ones_like(probed.alone)
    own = _tried(lambda: model(input_ids=probed.alone, attention_mask=real, use_cache=False).logits)
    if not isinstance(own, Tensor):
        raise ConfigError(f"{reader.name} ({kind}) does not read tokens alone: {own}. {_ADVICE}")
    exact = _is_exact(reader)
    prompts = own[:, : probed.prompt]
    if not all(agree(row, prompts[0], exact) for row in prompts[1:]):
        raise ConfigError(
            f"{reader.name} ({kind}) is no causal language model: what it gives at a token changes with the tokens behind "
            f"it. {_ADVICE}"
        )
    expected = own[probed.rows, probed.columns]
    for positions in (True, False):
        reader.way = Way(positions=positions)
        hidden = _tried(lambda: _alone(reader, probed))
        if not isinstance(hidden, Tensor):
            continue
        for head in reader.heads():
            reader.head = head
            if _agrees(reader, expected, partial(head, hidden)):
                _check_vectors(reader, probed)
                return
    raise ConfigError(
        f"{reader.name} ({kind}) gives other logits on its tokens' embeddings than on the tokens; it does something to one of "
        f"them that cannot be asked of it. {_ADVICE}"
    )


def _check_vectors(reader: Reader, probed: Samples) -> None:
    """Whether embeddings of no token are read too: some models look up which tokens those would be that they are given."""
    embeddings = reader.embed(probed.alone)
    between = (embeddings + embeddings.roll(1, dims=1)) / 2
    positions = torch.arange(between.shape[1], device=between.device).expand(len(between), -1)
    hidden = _tried(lambda: reader.read(between, positions).last_hidden_state)
    if not isinstance(hidden, Tensor) or not bool(torch.isfinite(hidden).all()):
        raise ConfigError(
            f"{reader.name} ({type(reader.model).__name__}) reads embeddings of its tokens only, and users' and items' vectors "
            f"are none: {hidden if isinstance(hidden, str) else 'what it gives on them is no number'}. {_ADVICE}"
        )


def _find_trees(reader: Reader, probed: Samples, alone: Tensor) -> bool:
    """Find a way in which a tree is read as its branches; `reader` keeps the old one where there is none."""
    before = reader.way
    if not before.positions:
        return False
    by_kind = reader.locality.kinds != ()
    for kinds in (by_kind, not by_kind):
        reader.way = Way(positions=True, by_kind=kinds)
        if _agrees(reader, alone, lambda: reader.head(_as_tree(reader, probed))):
            return True
    reader.way = before
    return False


def _long_trees(reader: Reader, lengths: Collection[int]) -> bool:
    """Whether trees are read rightly behind prompts that are longer than whatever some layers may look back.

    Args:
        reader: the model.
        lengths: numbers of a configuration that speak of something like a window, and could not be made smaller.
    """
    for length in sorted({length + _PROMPT for length in lengths if length < reader.max_tokens}):
        if length > min(_LONGEST, reader.max_tokens - NODES):
            return False
        probed = samples(reader, length)
        alone = _tried(partial(_alone, reader, probed))
        if not isinstance(alone, Tensor) or not _agrees(reader, alone, partial(_as_tree, reader, probed)):
            return False
    return True


def _local_lengths(config: Any) -> list[int]:
    found: list[int] = []
    for name, value in config.to_dict().items():
        if any(word in name for word in _LOCAL):
            values = value if isinstance(value, list | tuple) else [value]
            found += [one for one in values if isinstance(one, int) and not isinstance(one, bool) and one > 1]
    return found


@contextmanager
def _short_windows(reader: Reader, probed: Samples) -> Iterator[set[int]]:
    """Within it windows are shorter than the probe's prompt. Gives the lengths of those of which that could not be had."""
    locality, config = reader.locality, reader.config
    known = {"sliding_window": locality.window, "attention_chunk_size": locality.chunk}
    before = {name: size for name, size in known.items() if size is not None}
    left = set(_local_lengths(config)) - set(before.values())
    if not before:
        yield left
        return
    whole = _tried(lambda: _alone(reader, probed))
    for name, size in before.items():
        setattr(config, name, min(size, _WINDOW))
    try:
        short = _tried(lambda: _alone(reader, probed))
        same = isinstance(whole, Tensor) and isinstance(short, Tensor) and agree(short, whole, _is_exact(reader))
        yield left | {size for size in before.values() if same and size > _WINDOW}
    finally:
        for name, size in before.items():
            setattr(config, name, size)


def _whole(reader: Reader, probed: Samples) -> Tensor:
    """Hidden states of each branch behind the prompt, read by itself."""
    embeddings = reader.embed(probed.alone)
    positions = torch.arange(embeddings.shape[1], device=embeddings.device).expand(len(embeddings), -1)
    hidden: Tensor = reader.read(embeddings, positions).last_hidden_state
    return hidden


def _alone(reader: Reader, probed: Samples) -> Tensor:
    """Of these the states at the prompt's end and each node."""
    return _whole(reader, probed)[probed.rows, probed.columns]


def _as_tree(reader: Reader, probed: Samples) -> Tensor:
    """The same of the tree."""
    embeddings = reader.embed(probed.tree)
    hidden: Tensor = reader.read(embeddings, probed.positions, probed.visible).last_hidden_state
    return hidden[0, probed.prompt - 1 :]


def _behind(reader: Reader, probed: Samples) -> Tensor:
    """The same of the tree's nodes behind keys and values of the prompt, all but its last place."""
    cut = probed.prompt - 1
    embeddings = reader.embed(probed.tree)
    first = reader.read_behind(None, embeddings[:, :cut], probed.visible[:, :cut, :cut], probed.positions[:, :cut])
    layers = first.past_key_values.layers
    kept = KeysAndValues(
        torch.stack([layer.keys for layer in layers]),
        torch.stack([layer.values for layer in layers]),
        probed.positions[:, :cut],
    )
    output = reader.read_behind(kept, embeddings[:, cut:], probed.visible[:, cut:], probed.positions[:, cut:])
    hidden: Tensor = output.last_hidden_state
    return hidden[0]


def _shared(reader: Reader, probed: Samples) -> Tensor:
    """The same of the branches behind the prompt's doubled cache."""
    cut = probed.prompt
    embeddings = reader.embed(probed.alone)
    end, hidden = reader.read_branches(embeddings[0, :cut], embeddings[:, cut:])
    return torch.cat([end[None], hidden[probed.rows[1:], probed.columns[1:] - cut]])


def _decodes(reader: Reader, probed: Samples, hidden: Tensor) -> bool:
    """Whether rows of several lengths are continued as they are read whole, which gave `hidden`."""
    start = probed.prompt - 1
    lengths = torch.tensor([start, start - 3, start], device=probed.alone.device)
    places = torch.arange(len(lengths), device=lengths.device)
    rows = probed.alone
    embeddings = reader.embed(rows)
    # After the first step there are more rows, in another order.
    orders = [places, places[[1, 1, 0, 2]], places[[1, 1, 0, 2]]]

    expected = torch.cat([hidden[chosen, lengths[chosen] - 1 + n] for n, chosen in enumerate(orders)])

    def decoded() -> Tensor:
        decoding = CachedDecoding(reader, embeddings[:, :start], lengths)
        found = [decoding.logits]
        decoding.append(rows[places, lengths])
        decoding.keep(orders[1])
        found.append(decoding.logits)
        decoding.append(rows[orders[1], lengths[orders[1]] + 1])
        return torch.cat([*found, decoding.logits])

    return _agrees(reader, reader.head(expected), decoded)


_ADVICE = "Use another language model, such as one of the Llama, Qwen, OPT or Gemma families."


def _is_exact(reader: Reader) -> bool:
    return reader.embed(torch.zeros(1, dtype=torch.long)).dtype == torch.float32 and not hasattr(
        reader.model, "hf_quantizer"
    )


def _agrees(reader: Reader, expected: Tensor, read: Callable[[], Tensor]) -> bool:
    found = _tried(read)
    return isinstance(found, Tensor) and agree(found, expected, _is_exact(reader))


def _tried(read: Callable[[], Any]) -> Any:
    """What was read, or in words why not: a model that is read in a way that is not its own may fail in any way."""
    try:
        return read()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
