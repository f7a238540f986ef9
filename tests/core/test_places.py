"""Paths in a config are written out whole once; names that lead nowhere from here stay names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.places import PLACE, ModelName, with_whole_places


class Inner(Config):
    name: ModelName = Field("a/b", min_length=1)
    other: Annotated[str | None, PLACE] = Field(None)
    word: str = "here"


class Outer(Config):
    llm: ModelName = "a/b"
    inner: Inner = Inner()
    size: int = 3


def test_what_leads_somewhere_is_whole_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "m.gguf").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = Outer(llm="./here", inner=Inner(name="m.gguf", other="~/here", word="here"))
    found = with_whole_places(config)
    assert found.llm == str(tmp_path / "here")
    assert found.inner == Inner(name=str(tmp_path / "m.gguf"), other=str(tmp_path / "here"), word="here")
    assert with_whole_places(found) == found
    assert config.llm == "./here"


def test_names_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Outer(llm="facebook/opt-6.7b", inner=Inner(name="./not there"))
    assert with_whole_places(config) is config
