"""Seeds: one stream a name, the same each time, and torch's own state put back."""

from __future__ import annotations

import pytest
import torch

from allmrec.core.seeding import derived_seed, numpy_generator, seeded_torch


def test_the_stream_of_a_name_never_changes() -> None:
    # Runs from before would not resume, nor protocols be drawn again, if these numbers did.
    assert derived_seed(0) == 3456079177858693020
    assert derived_seed(0, "step", 3) == 4684684708116847563
    draws = [numpy_generator(7, "a").integers(1000, size=3).tolist() for _ in range(2)]
    assert draws[0] == draws[1]


def test_names_and_seeds_give_independent_streams() -> None:
    names = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "a", 1), (0, "a1"), (0, 1), (1, 0), (10,)]
    seeds = {derived_seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_torchs_own_draws_are_named_and_its_state_comes_back() -> None:
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded_torch(3, "dropout"):
            draws.append(torch.nn.functional.dropout(torch.ones(50), 0.5).tolist())
    assert draws[0] == draws[1]
    with pytest.raises(ValueError, match="inside"), seeded_torch(3):
        raise ValueError("inside")
    assert torch.equal(before, torch.get_rng_state())
