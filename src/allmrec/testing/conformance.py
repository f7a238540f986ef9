"""What every CF backbone must keep, as checks to run on one of ours or of yours; needs no pytest to be imported.

In a test file:

    class TestMine(BackboneConformance):
        subject = "mine"                   # a name in BACKBONES, or a function of a Split

In a program: `check_backbone("mine")`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from allmrec.alignment import AlignConfig, align
from allmrec.cf import Backbone, BackboneKind, PretrainConfig, SequenceBackbone, backbone_kind, pretrain
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.core.training import TrainingConfig
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.splitting import Split, leave_one_out
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.worlds import taste_world
from allmrec.text import EncoderConfig, load_encoder

__all__ = ["BackboneConformance", "ConformanceError", "check_backbone"]

Subject = str | Callable[[Split], Backbone]

_TASTES = 4
_ITEMS_PER_TASTE = 12
_TOLERANCE = 1e-5


class ConformanceError(AssertionError):
    """A backbone does not keep what it must."""


class BackboneConformance:
    """The checks, one a method; subclass it in a test file, or hand a backbone to `check_backbone`.

    Attributes:
        subject: a name in `BACKBONES`, which is pre-trained on a small world; or a function that makes a trained
            backbone from a split, for what trains elsewhere (saving is then its own affair).
        settings: the model's settings. Width 16 and length 8, which keep the checks fast, are set where the kind has
            such fields.
        training: fields of the training's settings.
        exempt: checks that do not hold for this backbone, by name, each with the reason; `run` and `check_backbone`
            leave them out and say so. In a subclass that pytest collects, override the method instead.
        wanted: share of users whose item must be found in the known-answer world; chance is one in 37.
    """

    subject: ClassVar[Subject]
    settings: ClassVar[Mapping[str, Any]] = {}
    training: ClassVar[Mapping[str, Any]] = {}
    exempt: ClassVar[Mapping[str, str]] = {}
    wanted: ClassVar[float] = 0.9

    _made: ClassVar[tuple[Split, Backbone] | None] = None

    @classmethod
    def checks(cls) -> list[str]:
        """Names of all checks."""
        return [name for name in vars(BackboneConformance) if name.startswith("test_")]

    def run(self, check: str) -> str:
        """Run one check: "passed", or "exempt: " with the reason.

        Raises:
            ConformanceError: the backbone does not keep it.
        """
        if check in self.exempt:
            return f"exempt: {self.exempt[check]}"
        getattr(self, check)()
        return "passed"

    def test_vectors_have_the_promised_shapes(self) -> None:
        """`item_vectors` has a row for each item and one for the padding, `user_vectors` one for each history."""
        _, backbone = self._world()
        _require(isinstance(backbone, Backbone), "it lacks a member of the protocol `Backbone`")
        expected = (backbone.n_items + 1, backbone.dim)
        found = tuple(backbone.item_vectors().shape)
        _require(found == expected, f"item_vectors() has shape {found}; expected {expected}")
        found = tuple(self._users([np.array([1, 2]), np.array([3])]).shape)
        _require(found == (2, backbone.dim), f"user_vectors(two) has shape {found}; expected {(2, backbone.dim)}")
        finite = bool(torch.isfinite(backbone.item_vectors()).all())
        _require(finite, "item_vectors() holds a number that is not finite")

    def test_saved_and_loaded_it_is_the_same(self) -> None:
        """What `state_dict` writes, `load` reads back: all vectors equal, bit for bit."""
        split, backbone = self._world()
        kind = self._kind()
        if kind is None:
            return
        module = cast(nn.Module, backbone)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            write_tensors(path, module.state_dict())
            loaded = kind.load(read_tensors(path), self._config().model)
        _require(not loaded.training, "load() gives it back in training mode; expected evaluation mode")
        _require(torch.equal(loaded.item_vectors(), backbone.item_vectors()), "its item vectors changed by saving")
        for users in (np.arange(split.dataset.n_users), np.full(split.dataset.n_users, -1)):
            batch = SequenceBatch(users, self._histories())
            same = torch.equal(loaded.user_vectors(batch), backbone.user_vectors(batch))
            _require(same, "its user vectors changed by saving")

    def test_a_later_item_moves_no_earlier_state(self) -> None:
        """Causality of `position_vectors`: all items after a column may change, and the states up to it stay."""
        _, backbone = self._world()
        if not isinstance(backbone, SequenceBackbone):
            return
        length = min(backbone.max_history, 6)
        items = torch.arange(1, length + 1).unsqueeze(0)
        for user in (0, -1):
            users = torch.tensor([user])
            with torch.no_grad():
                before = backbone.position_vectors(items, users)
                for column in range(length - 1):
                    changed = items.clone()
                    changed[:, column + 1 :] = backbone.n_items - items[:, column + 1 :]
                    after = backbone.position_vectors(changed, users)
                    moved = (after - before)[:, : column + 1].abs().max().item()
                    _require(
                        moved <= _TOLERANCE,
                        f"the state at position {column} moved by {moved:.2g} when later items changed (user {user})",
                    )

    def test_padding_makes_no_difference(self) -> None:
        """A history has one vector, however far it is padded and whoever stands beside it in the batch."""
        _, backbone = self._world()
        short, long = np.array([5, 3, 9]), np.arange(1, backbone.max_history + 1) % backbone.n_items + 1
        alone = self._users([short], length=3)
        cases = {"padded to 4": self._users([short], length=4)}
        cases["padded beyond the model's length"] = self._users([short], length=backbone.max_history + 3)
        cases["beside a longer history"] = self._users([short, long], length=backbone.max_history)[:1]
        if isinstance(backbone, SequenceBackbone):
            with torch.no_grad():
                histories = torch.from_numpy(left_pad([short], min(backbone.max_history, 7)))
                states = backbone.position_vectors(histories, torch.tensor([-1]))[:, -3:]
                bare = backbone.position_vectors(torch.from_numpy(short[None]), torch.tensor([-1]))
            _require(_apart(states, bare) <= _TOLERANCE, "position_vectors() depends on how far a history is padded")
        for what, found in cases.items():
            moved = _apart(found, alone)
            _require(moved <= _TOLERANCE, f"x_u of a history of three moved by {moved:.2g} {what}")

    def test_unknown_items_are_a_clear_error(self) -> None:
        """A number that is no item of the model raises `UnknownIdError`, which names it."""
        _, backbone = self._world()
        for number in (backbone.n_items + 1, -3):
            try:
                self._users([np.array([1, number])])
            except UnknownIdError as error:
                _require(str(abs(number)) in str(error), f"the error does not name the number {number}: {error}")
            except Exception as error:  # whatever another's backbone raises is what this check is for
                raise ConformanceError(
                    f"item number {number} in a history raised {type(error).__name__}: {error}; expected UnknownIdError"
                ) from error
            else:
                raise ConformanceError(f"item number {number} in a history raised nothing; expected UnknownIdError")

    def test_empty_and_short_histories_have_vectors(self) -> None:
        """No item, or one, gives finite numbers, alone and beside others; an empty history is the same everywhere."""
        _, backbone = self._world()
        nobody = np.array([], dtype=np.int64)
        alone = self._users([nobody], length=1)
        together = self._users([nobody, np.array([4]), np.array([4, 7, 2])], length=backbone.max_history)
        for what, found in (("an empty history", alone), ("a batch with an empty history", together)):
            _require(bool(torch.isfinite(found).all()), f"x_u of {what} holds a number that is not finite")
        _require(_apart(alone, together[:1]) <= _TOLERANCE, "x_u of an empty history depends on its batch")

    def test_only_the_most_recent_items_count(self) -> None:
        """Of a history longer than `max_history` the last part is looked at, and nothing fails."""
        _, backbone = self._world()
        items = np.arange(3 * backbone.max_history) % backbone.n_items + 1
        whole, recent = self._users([items]), self._users([items[-backbone.max_history :]])
        moved = _apart(whole, recent)
        _require(moved <= _TOLERANCE, f"items before the last {backbone.max_history} move x_u by {moved:.2g}")

    def test_a_known_world_is_recovered(self) -> None:
        """Every user keeps to one taste: the test item beats all items of other tastes, for known users and new ones."""
        split, backbone = self._world()
        dataset, E = split.dataset, backbone.item_vectors()
        taste = np.zeros(dataset.n_items + 1, dtype=np.int64)
        for user in range(dataset.n_users):
            taste[dataset.sequence(user)] = user % _TASTES
        others = torch.from_numpy(taste[1:][None] != taste[split.test][:, None])
        for whom, users in (("known", np.arange(dataset.n_users)), ("new", np.full(dataset.n_users, -1))):
            with torch.no_grad():
                scores = backbone.user_vectors(SequenceBatch(users, self._histories())) @ E.T
            target = scores.gather(1, torch.from_numpy(split.test.astype(np.int64))[:, None])
            best = scores[:, 1:].masked_fill(~others, -torch.inf).max(1, keepdim=True).values
            found = float((target > best).double().mean())
            _require(
                found >= self.wanted,
                f"for {whom} users it finds {found:.0%} of the items that it must; expected {self.wanted:.0%}",
            )

    def test_stage_1_leaves_it_as_it_is(self) -> None:
        """`alignment.align` with a tiny encoder for a few steps: weights and vectors stay, byte for byte."""
        split, backbone = self._world()
        batch = SequenceBatch(np.arange(split.dataset.n_users), self._histories())
        weights = _copies(backbone.state_dict()) if isinstance(backbone, nn.Module) else {}
        before = _copies({"item vectors": backbone.item_vectors(), "user vectors": backbone.user_vectors(batch)})
        texts = [None, *(f"Item {number}" for number in range(1, split.dataset.n_items + 1))]
        config = AlignConfig(joint_dim=8, training=TrainingConfig(epochs=1, batch_size=32, learning_rate=1e-2))
        with tempfile.TemporaryDirectory() as folder:
            save_tiny_encoder(Path(folder))
            align(split, backbone, texts, load_encoder(EncoderConfig(name=folder, tune=1)), config, seed=0)
        after = {"item vectors": backbone.item_vectors(), "user vectors": backbone.user_vectors(batch)}
        if isinstance(backbone, nn.Module):
            before, after = before | weights, after | backbone.state_dict()
        for name, tensor in before.items():
            _require(torch.equal(tensor, after[name]), f"{name} changed in stage 1")

    @classmethod
    def _kind(cls) -> BackboneKind | None:
        """The registry's entry; none for a function."""
        return backbone_kind(cls.subject) if isinstance(cls.subject, str) else None

    @classmethod
    def _config(cls) -> PretrainConfig:
        name = cast(str, cls.subject)
        fields = backbone_kind(name).config.model_fields
        small = {"dim": 16, "max_history": 8}
        model = {field: value for field, value in small.items() if field in fields} | dict(cls.settings)
        training = {"epochs": 40, "batch_size": 32, "learning_rate": 1e-2, "validate_every": 40} | dict(cls.training)
        return PretrainConfig.model_validate({"backbone": name, "model": model, "training": training})

    @classmethod
    def _world(cls) -> tuple[Split, Backbone]:
        """The world and the backbone trained on it, made once for all checks of a class."""
        if cls._made is None:
            split = leave_one_out(taste_world(users=120, tastes=_TASTES, items_per_taste=_ITEMS_PER_TASTE, length=9))
            if isinstance(cls.subject, str):
                cls._made = split, pretrain(split, cls._config(), seed=0)[0]
            else:
                cls._made = split, cls.subject(split)
        return cls._made

    def _histories(self) -> np.ndarray:
        split, backbone = self._world()
        histories = [split.test_history(user) for user in range(split.dataset.n_users)]
        return left_pad(histories, backbone.max_history)

    def _users(self, histories: list[np.ndarray], length: int | None = None) -> Tensor:
        """x_u of users whom the data set does not hold."""
        _, backbone = self._world()
        padded = left_pad(histories, length or max(1, *(len(history) for history in histories)))
        with torch.no_grad():
            return backbone.user_vectors(SequenceBatch(np.full(len(histories), -1), padded))


def check_backbone(
    subject: Subject,
    settings: Mapping[str, Any] | None = None,
    exempt: Mapping[str, str] | None = None,
    training: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Run every check on a backbone.

    Args:
        subject, settings, exempt, training: see `BackboneConformance`.

    Returns:
        For each check "passed", or "exempt: " with the reason.

    Raises:
        ConformanceError: checks that failed, each with what was found.
        ConfigError: `exempt` names no check.
    """
    # A function as a class's attribute would become a method.
    held = subject if isinstance(subject, str) else staticmethod(subject)
    reasons = exempt or {}
    members = {"subject": held, "settings": settings or {}, "exempt": reasons, "training": training or {}}
    cls = cast(type[BackboneConformance], type("Checked", (BackboneConformance,), members))
    unknown = sorted(set(reasons) - set(cls.checks()))
    if unknown:
        raise ConfigError(f"There is no check {unknown[0]!r}; known are {', '.join(cls.checks())}.")
    results, failures = {}, []
    for name in cls.checks():
        try:
            results[name] = cls().run(name)
        except ConformanceError as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise ConformanceError("\n".join(failures))
    return results


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; two that are not finite in the same place are not apart, another check sees to those."""
    return float(torch.nan_to_num(one - other).abs().max())


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
