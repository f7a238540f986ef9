"""Precisions of the frozen language model: what is asked of transformers, and what cannot run says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.precision import Precision, loading_arguments
from allmrec.llm.transformers_lm import load_language_model
from allmrec.testing.tiny_lm import save_tiny_language_model

CPU = torch.device("cpu")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes: pip install 'allmrec[quantised]'"
)


@pytest.mark.parametrize("faster", [torch.float32, torch.bfloat16])
def test_auto_depends_on_the_device_and_on_what_the_processor_is_fast_at(
    faster: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allmrec.core.precision._seconds", lambda dtype: 1.0 if dtype == faster else 2.0)
    assert loading_arguments("auto", CPU) == {"dtype": faster}
    assert loading_arguments("auto", torch.device("cuda")) == {"dtype": torch.bfloat16}
    assert loading_arguments("bfloat16", CPU) == {"dtype": torch.bfloat16}


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"int8 needs bitsandbytes.*allmrec\[quantised\]"):
        loading_arguments("int8", CPU)


@needs_bitsandbytes
def test_a_device_without_kernels_says_so() -> None:
    with pytest.raises(ConfigError, match="int4 cannot run on mps"):
        loading_arguments("int4", torch.device("mps"))


@needs_bitsandbytes
@pytest.mark.parametrize(("precision", "tolerance"), [("int8", 0.1), ("int4", 0.5)])
def test_quantised_weights_say_nearly_the_same_and_let_gradients_through(
    precision: Precision, tolerance: float, tmp_path: Path
) -> None:
    folder = save_tiny_language_model(tmp_path / "lm", "llama", dim=64)
    plain, small = (load_language_model(folder, precision=kind) for kind in ("float32", precision))
    torch.manual_seed(0)
    embeddings = torch.randn(2, 5, 64, requires_grad=True)
    positions = torch.arange(5).expand(2, 5)
    wanted, found = (lm.hidden(embeddings, None, positions).float() for lm in (plain, small))
    difference = float((wanted - found).norm().detach() / wanted.norm().detach())
    assert 0 < difference < tolerance
    found.sum().backward()
    assert embeddings.grad is not None
    assert bool(embeddings.grad.isfinite().all())
    assert small.frozen.module.get_memory_footprint() < plain.frozen.module.get_memory_footprint()


@needs_bitsandbytes
def test_a_pass_without_gradients_changes_neither_weights_nor_later_gradients(tmp_path: Path) -> None:
    """bitsandbytes repacks int4 weights in place on some CPUs, and its backward pass then reads them wrongly."""
    lm = load_language_model(save_tiny_language_model(tmp_path / "lm", "llama", dim=64), precision="int4")
    positions = torch.arange(5).expand(2, 5)
    torch.manual_seed(0)
    embeddings = torch.randn(2, 5, 64)

    def gradient() -> torch.Tensor:
        read = embeddings.clone().requires_grad_()
        lm.hidden(read, None, positions).float().square().sum().backward()
        assert read.grad is not None
        return read.grad

    before, weights = gradient(), fingerprint(lm.frozen.module)
    with torch.no_grad():
        lm.hidden(embeddings, None, positions)
    torch.testing.assert_close(gradient(), before)
    assert fingerprint(lm.frozen.module) == weights
