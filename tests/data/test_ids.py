from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from allmrec.core.errors import ConfigError
from allmrec.data.ids import id_text, id_texts


@pytest.mark.parametrize("value", [12, np.int32(12), np.uint64(12), torch.tensor(12), "12", np.str_("12")])
def test_a_whole_number_is_the_id_of_its_digits(value: object) -> None:
    found = id_text(value)
    assert (found, type(found)) == ("12", str)


@pytest.mark.parametrize("value", [12.0, np.float32(12), True, np.True_, None, b"12", [12], torch.tensor(12.0)])
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="is no user id; expected text or a whole number"):
        id_text(value, "user")


@pytest.mark.parametrize(
    "values",
    [
        [3, "1", 2],
        (3, 1, 2),
        np.array([3, 1, 2]),
        np.array(["3", "1", "2"]),
        np.array([3, "1", 2], dtype=object),
        torch.tensor([3, 1, 2]),
        pa.array([3, 1, 2]),
        pa.chunked_array([["3"], ["1", "2"]]),
        (number for number in (3, 1, 2)),
    ],
)
def test_lists_arrays_and_tensors_keep_their_order(values: object) -> None:
    assert id_texts(values) == ["3", "1", "2"]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_series_is_a_list(package: str) -> None:
    assert id_texts(pytest.importorskip(package).Series([3, 1, 2])) == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a,b", r"The history is no list: found the text 'a,b'. Give a list such as \['a', 'b'\], or split"),
        ({"a": 1}, "found a dict, which has no order"),
        ({"a", "b"}, "found a set, which has no order"),
        (5, r"found 5. Give \[5\]."),
        (np.array(5), r"found 5. Give \[5\]."),
        (np.array([[1, 2]]), r"\[1, 2\] is no item id"),
        (np.array([1.0, np.nan]), "1.0 is no item id"),
    ],
)
def test_a_text_and_what_has_no_order_are_no_history(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        id_texts(values)
