"""Models asked for before training: what is here passes, what is not is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from allmrec.core.errors import ModelNotFoundError
from allmrec.pipeline.frozen import check_encoder, check_language_model

# The test run is offline (HF_HUB_OFFLINE), so the hub is never asked.
CHECKS = [(check_language_model, "language model"), (check_encoder, "sentence encoder")]


@pytest.mark.parametrize(("check", "kind"), CHECKS)
def test_a_name_that_leads_nowhere_is_named(check: Callable[[str], None], kind: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"The {kind} 'no/such-model' is no folder here"):
        check("no/such-model")
    with pytest.raises(ModelNotFoundError, match=f"The {kind} '/no such folder' is no folder here"):
        check("/no such folder")


@pytest.mark.parametrize(("check", "kind"), CHECKS)
def test_a_folder_passes(check: Callable[[str], None], kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check(str(tmp_path))
