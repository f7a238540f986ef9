"""Shared by all tests: axis types checked at run time, threads kept few, no network for models."""

from __future__ import annotations

import os

# Before torch or transformers is imported anywhere: workers share the cores, and every model is in a package.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings
from jaxtyping import install_import_hook

# Every function of the package checks its arguments' types and axes while the tests run; in production none does.
install_import_hook("allmrec", "axis_checks.check")

# Shared machines make deadlines flaky; a fixed seed makes a failure repeatable.
settings.register_profile("allmrec", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("allmrec")
