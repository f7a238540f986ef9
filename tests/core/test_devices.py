from __future__ import annotations

import inspect

import pytest
import torch

import allmrec
from allmrec.core.devices import chosen_device
from allmrec.core.errors import ConfigError


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert (chosen_device(), chosen_device("auto")) == (expected, expected)


def test_a_named_device_is_taken_or_refused() -> None:
    assert chosen_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"The device 'abacus' cannot be used here: .* Try cpu"):
        chosen_device("abacus")


@pytest.mark.parametrize(
    "call",
    [
        allmrec.train,
        allmrec.open_run,
        allmrec.ALLMRec.from_pretrained,
        allmrec.Run.create,
        allmrec.Run.draft,
        allmrec.Run.open,
    ],
)
def test_the_default_is_the_same_everywhere(call: object) -> None:
    assert callable(call)
    assert inspect.signature(call).parameters["device"].default == "auto"
