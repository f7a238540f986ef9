"""Damaged files of every source: a data set with what is left, or an error of ours, never another exception."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data import SOURCES, InteractionDataset, prepare_source

_REVIEWS_2018 = [
    {
        "overall": float(n % 5 + 1),
        "reviewerID": f"A{n % 4}",
        "asin": f"B{n % 3}",
        "style": {"Format:": " DVD"},
        "reviewText": 'It\'s \U0001f600 "good"',
        "unixReviewTime": 10**9 + n,
    }
    for n in range(12)
]
_META_2018 = [
    {"asin": f"B{n}", "title": f"T{n}", "description": ["One.", "Two."], "category": ["x", "y"]} for n in range(3)
]
_REVIEWS_2023 = [
    {
        "rating": 4.0,
        "parent_asin": f"B{n % 3}",
        "user_id": f"A{n % 4}",
        "timestamp": 1_600_000_000_000 + n,
        "images": [],
    }
    for n in range(12)
]
_META_2023 = [{"parent_asin": f"B{n}", "title": f"T{n}", "description": [], "categories": []} for n in range(3)]
_META_2014 = [{"asin": f"B{n}", "title": f"T{n}'s", "categories": [["x"]], "price": 1.5} for n in range(3)]


def _lines(rows: list[dict[str, object]], write: Callable[[object], str] = json.dumps) -> bytes:
    return "".join(write(row) + "\n" for row in rows).encode()


@dataclass(frozen=True)
class Case:
    """A source's files, and the options that name them."""

    source: str
    files: dict[str, bytes]
    options: Callable[[Path], dict[str, object]]


def _folder(path: Path) -> dict[str, object]:
    return {"directory": path}


def _two_files(path: Path) -> dict[str, object]:
    return {"reviews": path / "log.json", "metadata": path / "meta.json"}


_TAGS = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
_CASES = {
    "amazon 2014": Case(
        "amazon", {"log.json": _lines(_REVIEWS_2018, repr), "meta.json": _lines(_META_2014, repr)}, _two_files
    ),
    "amazon 2018": Case("amazon", {"log.json": _lines(_REVIEWS_2018), "meta.json": _lines(_META_2018)}, _two_files),
    "amazon 2023": Case("amazon", {"log.json": _lines(_REVIEWS_2023), "meta.json": _lines(_META_2023)}, _two_files),
    "movietweetings": Case(
        "movietweetings",
        {
            "ratings.dat": b"".join(b"%d::000%d::%d::%d\n" % (n % 4, n % 3, n % 10, 10**9 + n) for n in range(12)),
            "movies.dat": "0000::Fantômas (1913)::Crime|Drama\n0001::B (1915)::\n0002::C (2001)::Short\n".encode(),
        },
        _folder,
    ),
    "recbole": Case(
        "recbole",
        {
            "x.inter": _TAGS + b"".join(b"u%d\ti%d\t%d.5\t%d\n" % (n % 4, n % 3, n % 5, n) for n in range(12)),
            "x.item": "item_id:token\ttitle:token_seq\tclass:token_seq\ni0\tÉté One\tx y\ni1\t\t\n".encode(),
        },
        _folder,
    ),
    "movielens": Case(
        "movielens",
        {
            "ratings.csv": b"userId,movieId,rating,timestamp\n"
            + b"".join(b"%d,%d,3.5,%d\n" % (n % 4, n % 3, n) for n in range(12)),
            "movies.csv": 'movieId,title,genres\n0,"Story, The (1995)",x|y\n1,Été (1996),x\n2,C,y\n'.encode(),
        },
        _folder,
    ),
    "table": Case(
        "table",
        {
            "log.csv": b"user_id,item_id,rating,time\n"
            + b"".join(b"%d,%d,3,%d\n" % (n % 4, n % 3, n) for n in range(12)),
            "items.csv": 'item_id,title\n0,"Été, one"\n1,\n2,C\n'.encode(),
        },
        lambda path: {"interactions": path / "log.csv", "items": path / "items.csv"},
    ),
}

# What happens to bytes: a kind, a place as a share of the file, and what is put there.
_PUT = (
    *(b"\0", b"\xff", b'"', b"'", b"\n", b"\r", b"{", b"}", b"[", b"]", b"::", b"\t", b",", b"\\", b"\xef\xbb\xbf"),
    *(
        b"five",
        b"NaN",
        b"-1e999",
        b"9" * 400,
        b"9" * 5000,
        b"\\ud83d",
        b"\\ude00",
        b"\xed\xa0\xbd",
        b"\x1f\x8b",
    ),
    *(b"[" * 3000, b"{'a':" * 3000, b'{"a":' * 3000, b"(" * 300, b"-" * 30_000, b"1+" * 5000, b"x" * 200_000),
    *(b"\n" + b"[" * 50_000 + b"\n", b"null", b"true", b"None", b"{}", b'{"asin": {"asin": 1}}\n', b"\\N{x}", b"\\x"),
)
_damages = st.lists(
    st.tuples(
        st.sampled_from(["cut", "put", "put", "put", "lose", "rename", "again", "shuffle", "utf-16"]),
        st.floats(0, 1),
        st.sampled_from(_PUT) | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=3,
)
_KEYS = (
    b"asin",
    b"reviewerID",
    b"overall",
    b"unixReviewTime",
    b"user_id",
    b"item_id",
    b":token",
    b"rating",
    b"movieId",
)


def damaged(content: bytes, damages: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, what in damages:
        place = int(share * len(content))
        if kind == "cut":
            content = content[:place]
        elif kind == "put":
            content = content[:place] + what + content[place:]
        elif kind == "lose":
            content = content[:place] + content[place + 1 + len(what) :]
        elif kind == "rename":
            content = content.replace(_KEYS[place % len(_KEYS)], b"thing", 1 if share < 0.5 else -1)
        elif kind == "again":
            content = content[:place] + content
        elif kind == "shuffle":
            content = content[place:] + content[:place]
        else:
            content = content.decode("utf-8", "replace").encode("utf-16")
    return content


def outcome(folder: Path, case: Case, on_error: str) -> str:
    """What came of a case, which must be a data set that can be used, or an error of ours that names a file."""
    found: InteractionDataset | DataError
    try:
        found = prepare_source(case.source, {**case.options(folder), "on_error": on_error})
    except DataError as error:
        found = error
    if isinstance(found, DataError):
        assert found.path is not None
        assert found.path == folder or found.path.parent == folder
        assert len(str(found)) < 2000, "a message is for people"
        return "error"
    dataset = found
    assert dataset.n_interactions > 0
    assert len(dataset.content_hash) == 64
    if on_error == "fail":
        assert not dataset.provenance.skipped
    assert all(count > 0 for count in dataset.provenance.skipped.values())
    return "skipped" if dataset.provenance.skipped else "read"


def test_every_source_is_here() -> None:
    assert {case.source for case in _CASES.values()} == set(SOURCES)


@pytest.mark.parametrize("name", list(_CASES))
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    for file, content in _CASES[name].files.items():
        (tmp_path / file).write_bytes(content)
    assert outcome(tmp_path, _CASES[name], "fail") == "read"


@pytest.mark.filterwarnings("ignore::allmrec.core.errors.AllmrecWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", list(_CASES))
@given(
    log=_damages,
    items=_damages | st.just([]),
    on_error=st.sampled_from(["fail", "skip"]),
    zipped=st.sampled_from(["no", "no", "yes", "damaged"]),
)
@example(log=[("put", 0.5, b"\\ud83d")], items=[], on_error="skip", zipped="no")
@example(log=[("put", 0.5, b"\n" + b"[" * 100_000 + b"\n")], items=[], on_error="skip", zipped="no")
@example(log=[("put", 0.5, b"\n" + b"-" * 100_000 + b"1\n")], items=[], on_error="skip", zipped="no")
@example(log=[("cut", 0.0, b"")], items=[], on_error="skip", zipped="no")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_damage_gives_an_error_or_a_counted_skip(
    tmp_path: Path,
    name: str,
    log: list[tuple[str, float, bytes]],
    items: list[tuple[str, float, bytes]],
    on_error: str,
    zipped: str,
) -> None:
    case = _CASES[name]
    for (file, content), damages in zip(case.files.items(), (log, items), strict=True):
        content = damaged(content, damages)
        if zipped != "no":
            content = gzip.compress(content, mtime=0)
        if zipped == "damaged":
            place = len(content) // 2
            content = content[:place] + (b"" if len(log) > 1 else bytes([content[place] ^ 0x55]) + content[place + 1 :])
        (tmp_path / file).write_bytes(content)
    assert outcome(tmp_path, case, on_error) in ("error", "skipped", "read")


def _bad_lines(name: str) -> dict[bytes, str]:
    """Lines that each are bad in one way, and the kind that they are counted as."""
    if name.startswith("amazon"):
        new = name == "amazon 2023"
        review: dict[str, object] = dict((_REVIEWS_2023 if new else _REVIEWS_2018)[0])
        user, item = ("user_id", "parent_asin") if new else ("reviewerID", "asin")
        rating, moment = ("rating", "timestamp") if new else ("overall", "unixReviewTime")
        write = repr if name == "amazon 2014" else json.dumps
        syntax = "no Python literal" if name == "amazon 2014" else "not JSON"
        return {
            write(review).encode()[:-5]: syntax,
            b"[" * 100_000: syntax,
            b"[1]": "not an object",
            write(review).replace("good", "\xff").encode("latin-1", "ignore").replace(b"A0", b"\xff"): "wrong encoding",
            write({key: value for key, value in review.items() if key != user}).encode(): "empty user id",
            write({key: value for key, value in review.items() if key != item}).encode(): "empty item id",
            write({**review, rating: "five"}).encode(): "rating is no number",
            write({**review, moment: "yesterday"}).encode(): "time is no number",
            write({**review, user: ["A"]}).encode(): "unexpected value",
            write({**review, user: "A\0"}).encode(): "control character in user id",
        }
    mark = {"movietweetings": b"::", "recbole": b"\t"}.get(name, b",")
    return {
        mark.join([b"1", b"2"]): "wrong number of columns",
        mark.join([b"", b"2", b"3", b"4"]): "empty user id",
        mark.join([b"1", b" ", b"3", b"4"]): "empty item id",
        mark.join([b"1", b"2", b"five", b"4"]): "rating is no number",
        mark.join([b"1", b"2", b"3", b"yesterday"]): "time is no number",
        mark.join([b"\xff", b"2", b"3", b"4"]): "wrong encoding",
        mark.join([b"1\0", b"2", b"3", b"4"]): "control character in user id",
    }


@pytest.mark.parametrize("name", list(_CASES))
def test_each_kind_of_bad_line_is_counted(tmp_path: Path, name: str) -> None:
    case = _CASES[name]
    for file, content in case.files.items():
        (tmp_path / file).write_bytes(content)
    log = next(iter(case.files))
    whole = prepare_source(case.source, case.options(tmp_path))
    lines = _bad_lines(name)
    (tmp_path / log).write_bytes(case.files[log] + b"\n".join(lines) + b"\n")
    with pytest.raises(DataError, match=rf"{log}:\d+: "):
        prepare_source(case.source, case.options(tmp_path))
    left = prepare_source(case.source, {**case.options(tmp_path), "on_error": "skip"})
    expected: dict[str, int] = {}
    for kind in lines.values():
        expected[f"{log}: {kind}"] = expected.get(f"{log}: {kind}", 0) + 1
    assert left.provenance.skipped == expected
    assert left.content_hash == whole.content_hash
