"""Stage 1's terms by a plain loop, one by one and in both recipes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from allmrec.alignment import AlignConfig, Autoencoder, ItemSide, alignment_terms
from allmrec.core.seeding import seeded_torch

# The released program's choices, as recipes/released.toml names them.
RELEASED = AlignConfig(
    text_reconstruction_weight=0.2, reconstructed="both", text_target="detached", recommendation_score="mean"
)

D, WIDTH, JOINT, ROWS = 4, 6, 3, 5


@pytest.fixture
def parts() -> dict[str, Tensor | Autoencoder]:
    with seeded_torch(0, "objective"):
        return {
            "items": Autoencoder(D, JOINT),
            "texts": Autoencoder(WIDTH, JOINT),
            "x": torch.randn(ROWS, D),
            "E+": torch.randn(ROWS, D),
            "E-": torch.randn(ROWS, D),
            "Q+": torch.randn(ROWS, WIDTH, requires_grad=True),
            "Q-": torch.randn(ROWS, WIDTH, requires_grad=True),
        }


def terms(parts: dict, config: AlignConfig, has_text: Tensor | None = None, negative_text: bool = False) -> dict:
    positive = ItemSide(parts["E+"], parts["Q+"], has_text)
    negative = ItemSide(parts["E-"], parts["Q-"] if negative_text else None)
    return alignment_terms(parts["items"], parts["texts"], parts["x"], positive, negative, config)


def values(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in found.items()}


def mean_square(left: Tensor, right: Tensor) -> float:
    total = 0.0
    for a, b in zip(left.flatten().tolist(), right.flatten().tolist(), strict=True):
        total += (a - b) ** 2
    return total / left.numel()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(parts: dict, released: bool) -> dict[str, float]:
    items, texts = parts["items"], parts["texts"]
    found = {"matching": 0.0, "item_reconstruction": 0.0, "text_reconstruction": 0.0}
    with torch.no_grad():
        for sign in "+-" if released else "+":
            e, q = torch.sigmoid(items.encoder(parts[f"E{sign}"])), torch.sigmoid(texts.encoder(parts[f"Q{sign}"]))
            found["matching"] += mean_square(e, q)
            found["item_reconstruction"] += 0.5 * mean_square(parts[f"E{sign}"], items.decoder(e))
            found["text_reconstruction"] += (0.2 if released else 0.5) * mean_square(
                parts[f"Q{sign}"], texts.decoder(q)
            )
        total = 0.0
        for row in range(ROWS):
            for sign in "+-":
                decoded = items.decoder(torch.sigmoid(items.encoder(parts[f"E{sign}"][row])))
                score = sum(a * b for a, b in zip(parts["x"][row].tolist(), decoded.tolist(), strict=True))
                chance = sigmoid(score / D if released else score)
                total -= math.log(chance if sign == "+" else 1 - chance)
    return found | {"recommendation": total / ROWS}


def test_the_papers_terms_by_hand(parts: dict) -> None:
    assert values(terms(parts, AlignConfig())) == pytest.approx(by_hand(parts, released=False), rel=1e-5)


def test_the_released_programs_terms_by_hand(parts: dict) -> None:
    found = terms(parts, RELEASED, negative_text=True)
    assert values(found) == pytest.approx(by_hand(parts, released=True), rel=1e-5)


def test_weights_scale_their_own_term(parts: dict) -> None:
    plain = values(terms(parts, AlignConfig()))
    weights = {"matching": 3.0, "item_reconstruction": 0.25, "text_reconstruction": 2.0, "recommendation": 0.1}
    scaled = values(terms(parts, AlignConfig(**{f"{name}_weight": weight for name, weight in weights.items()})))
    for name, weight in weights.items():
        default = getattr(AlignConfig(), f"{name}_weight")
        assert scaled[name] == pytest.approx(plain[name] * weight / default, rel=1e-5)


@pytest.mark.parametrize("name", ["matching", "item_reconstruction", "text_reconstruction", "recommendation"])
def test_a_term_of_weight_zero_is_left_out(parts: dict, name: str) -> None:
    everything = values(terms(parts, AlignConfig()))
    found = values(terms(parts, AlignConfig(**{f"{name}_weight": 0.0})))
    assert found == pytest.approx({other: value for other, value in everything.items() if other != name})


def test_items_without_text_take_no_part_in_the_text_terms(parts: dict) -> None:
    mask = torch.tensor([True, False, True, False, True])
    found = values(terms(parts, AlignConfig(), has_text=mask))
    kept = {**parts, "E+": parts["E+"][mask], "E-": parts["E-"][mask], "Q+": parts["Q+"][mask], "x": parts["x"][mask]}
    wanted = values(terms(kept, AlignConfig()))
    everything = values(terms(parts, AlignConfig()))
    for name in ("matching", "text_reconstruction"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)
    for name in ("item_reconstruction", "recommendation"):
        assert found[name] == pytest.approx(everything[name], rel=1e-5)
    none = values(terms(parts, AlignConfig(), has_text=torch.zeros(ROWS, dtype=torch.bool)))
    assert none["matching"] == none["text_reconstruction"] == 0


@pytest.mark.parametrize("target", ["attached", "detached"])
def test_the_text_target_gets_a_gradient_only_when_attached(parts: dict, target: str) -> None:
    texts, q = parts["texts"], parts["Q+"]
    config = AlignConfig(text_target=target, matching_weight=0)
    terms(parts, config)["text_reconstruction"].backward()
    decoded = texts.decode(texts.encode(q))
    through = torch.autograd.grad(0.5 * (q.detach() - decoded).square().mean(), q)[0]
    direct = q.detach() - decoded.detach()
    wanted = through + (direct / q.numel() if target == "attached" else 0)
    torch.testing.assert_close(q.grad, wanted)


def test_recipes_are_the_table_of_differences() -> None:
    paper, released = AlignConfig(), RELEASED
    differing = {name for name in AlignConfig.model_fields if getattr(paper, name) != getattr(released, name)}
    assert differing == {"text_reconstruction_weight", "reconstructed", "recommendation_score"}
