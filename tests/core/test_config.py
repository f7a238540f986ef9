"""Configs from mappings: each wrong field named by its path, with the field that was probably meant."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError


class Training(Config):
    epochs: int = Field(3, ge=1)
    learning_rate: float = 1e-3


class Stage(Config):
    training: Training = Training()
    tune: Literal["full", "frozen"] | int = "full"
    weight: float = 1.0

    @model_validator(mode="after")
    def _some_weight(self) -> Stage:
        if self.weight == 0:
            raise ValueError("weight is 0; nothing would be learned")
        return self


class Run(Config):
    first: Stage = Stage()
    second: Stage = Stage()
    seed: int = 0


def test_a_mapping_becomes_a_config() -> None:
    found = parse_config(Run, {"first": {"training": {"epochs": 7}}, "seed": 2}, "The test")
    assert found.first.training == Training(epochs=7)
    assert (found.second, found.seed) == (Stage(), 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sede": 1}, "sede: no such field; did you mean seed?"),
        ({"first": {"trainign": {}}}, "first.trainign: no such field; did you mean first.training?"),
        (
            {"second": {"training": {"epoch": 1}}},
            "second.training.epoch: no such field; did you mean second.training.epochs?",
        ),
        # Right name, wrong place.
        ({"epochs": 1}, "epochs: no such field; did you mean first.training.epochs or second.training.epochs?"),
        ({"quux": 1}, "quux: no such field"),
        (
            {"first": {"training": {"epochs": 0}}},
            "first.training.epochs: Input should be greater than or equal to 1 (found 0)",
        ),
        ({"first": {"weight": 0}}, "first: weight is 0; nothing would be learned"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Run, values, "The test")
    assert str(caught.value) == f"The test does not fit Run: {message}"


def test_several_wrong_fields_stand_on_lines_of_their_own() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Run, {"sede": 1, "first": {"tune": "part"}}, "The test")
    lines = str(caught.value).splitlines()
    assert lines[0] == "The test does not fit Run:"
    assert {line.split(":")[0] for line in lines[1:]} == {"  sede", "  first.tune"}


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Run().seed = 3  # type: ignore[misc]  # the point of the test
