"""What the package exports is what it says it exports."""

from __future__ import annotations

import types

import allmrec.evaluation as package


def test_all_is_what_is_exported() -> None:
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert public == set(package.__all__)
    assert list(package.__all__) == sorted(package.__all__)
