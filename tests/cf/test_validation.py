"""The validation sample reads users in groups of like length, and gives what one user at a time would."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.cf.validation import ValidationSample
from allmrec.data.batching import SequenceBatch
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_users_vectors_are_those_of_one_at_a_time_in_their_order(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    sequences = {f"u{u}": [f"i{n}" for n in rng.permutation(40)[: rng.integers(3, 20)]] for u in range(50)}
    split = leave_one_out(InteractionDataset.from_sequences(sequences, items=[f"i{n}" for n in range(40)]))
    torch.manual_seed(0)
    model = SASRec(40, SASRecConfig(dim=8, max_history=10)).eval()
    sample = ValidationSample(split, 40, None, 10, 0)
    with torch.no_grad():
        found = sample.user_vectors(model, batch_size)
        users, histories = sample.batch.users, sample.batch.histories
        for row in range(len(users)):
            alone = model.user_vectors(SequenceBatch(users[row : row + 1], histories[row : row + 1]))
            torch.testing.assert_close(found[row : row + 1], alone, rtol=1e-5, atol=1e-6)
