"""The type checker that the tests' import hook puts on every function of the package."""

from __future__ import annotations

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

# jaxtyping's hook decorates methods one by one, and beartype knows what Self is only where it decorates the whole
# class; left alone it refuses every method that returns Self. mypy checks these. An int passes for a float, as in mypy.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))
