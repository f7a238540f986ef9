"""`allmrec doctor`: what is installed, which device there is, which models and data can be reached."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil

import torch
import typer
from rich.table import Table

from allmrec.cli.options import CONSOLE
from allmrec.core.artifacts import versions
from allmrec.core.packaged import PACKAGED, cache_root, find_packaged
from allmrec.core.visible import as_terminal

__all__ = ["register"]


_EXTRAS = (
    ("gguf", "gguf", "language models that come as GGUF files"),
    ("bitsandbytes", "quantised", "language models in int8 and int4"),
    ("duckdb", "duckdb", "preparing files that are larger than memory"),
    ("faiss", "index", "an approximate index of a large catalogue"),
    ("bm25s", "bm25", "the BM25 baseline"),
    ("peft", "lora", "the TALLRec baseline"),
    ("matplotlib", "plots", "the figure of `allmrec attention`"),
)


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("doctor", help="What is installed, which device there is, which models can be reached.")
    def doctor() -> None:
        machine = Table("machine", "", title="allmrec doctor", title_justify="left")
        machine.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
        for package, version in versions().items():
            machine.add_row(package, version)
        machine.add_row("threads", str(torch.get_num_threads()))
        machine.add_row("device", _device())
        root = cache_root()
        free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free
        machine.add_row("cache", as_terminal(f"{root} ({free / 1e9:.0f} GB free)"))
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        machine.add_row("model hub", "switched off by HF_HUB_OFFLINE" if offline else "asked for models by name")
        CONSOLE.print(machine)
        shipped = Table("model or data from a package", "state", title_justify="left")
        for name, entry in PACKAGED.items():
            where = find_packaged(name)
            state = f"installed: {where}" if where is not None else f"missing; {entry.advice}"
            shipped.add_row(name, as_terminal(state))
        CONSOLE.print(shipped)
        extras = Table("extra", "for", "state")
        for module, extra, purpose in _EXTRAS:
            there = importlib.util.find_spec(module) is not None
            state = "installed" if there else f"missing; pip install 'allmrec[{extra}]'"
            extras.add_row(extra, purpose, as_terminal(state))
        CONSOLE.print(extras)


def _device() -> str:
    """The fastest device that torch sees."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return "CPU; the paper's own sizes need a GPU, the recipes `cpu` and `demo` do not"
