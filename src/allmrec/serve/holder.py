"""Which versions are served now, with which items; both change while requests are answered, and no request sees half a change."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.core.memory import give_back_memory
from allmrec.recommend.allmrec import NewItem, NewVectors
from allmrec.serve.config import ServeConfig
from allmrec.serve.lanes import Lane
from allmrec.serve.loading import load
from allmrec.serve.logs import log
from allmrec.serve.metrics import Metrics
from allmrec.serve.problems import RefusedError
from allmrec.serve.served import Served
from allmrec.serve.state import StoredItem

__all__ = ["Holder"]

# Seconds between two looks at whether a version that was replaced still has a request in hand.
_LOOKS = 1.0

# What the encoder made of one item: a row of each tensor of `NewVectors`.
_Row: TypeAlias = NewVectors


class Holder:
    """Versions side by side by label, each as it was loaded and as it is served.

    Args:
        config: of the server.
        items: reads the items that came after training, as `State.items` gives them.
        metrics: counts what is reloaded.
        try_out: answers a request with a version before it takes over; raises where that fails.
        encoder: where the sentence encoder works.
    """

    def __init__(
        self,
        config: ServeConfig,
        items: Callable[[], Awaitable[tuple[list[StoredItem], list[str], int]]],
        metrics: Metrics,
        try_out: Callable[[Served], None],
        encoder: Lane,
    ) -> None:
        self._config, self._items, self._metrics, self._try_out = config, items, metrics, try_out
        self._encoder = encoder
        self._loaded: dict[str, Served] = {}
        self._current: dict[str, Served] = {}
        self._kept: dict[tuple[str, str], dict[StoredItem, _Row]] = {}
        self._stored: tuple[tuple[StoredItem, ...], tuple[str, ...]] = ((), ())
        self._seen = -1
        self._started = False
        self._changing, self._loading = asyncio.Lock(), False
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def versions(self) -> dict[str, Served]:
        """By label."""
        return dict(self._current)

    @property
    def ready(self) -> bool:
        """Whether every version that is to be served first is."""
        return self._started

    def pick(self, wanted: str | None, whom: str | None = None) -> Served:
        """The version that answers.

        Args:
            wanted: a label or a version that the request names; none: by share.
            whom: what the share goes by, so that the same user meets the same version; none: it is about no user, and main
                answers.

        Raises:
            ConfigError: there is no such version.
        """
        if wanted is not None:
            for served in self._current.values():
                if wanted in (served.label, served.version):
                    return served
            known = ", ".join(f"{one.label} ({one.version})" for one in self._current.values())
            raise ConfigError(f"Version {wanted[:100]!r} is not served; served are {known}.")
        if "beside" in self._current and whom is not None:
            place = int.from_bytes(hashlib.sha256(whom.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
            if place < self._config.share:
                return self._current["beside"]
        return self._current["main"]

    async def start(self, run: Path) -> None:
        """Load what is served first; raises what `load` raises."""
        await self._take(run, "main")
        if self._config.beside is not None:
            await self._take(self._config.beside, "beside")
        self._started = True

    async def reload(self, run: Path | None, label: str) -> tuple[str, Served]:
        """Load another version, try it, and let it take over: the version before, and what is served now.

        Requests that are in hand end with the version that they began with.

        Raises:
            RefusedError: it cannot be used; what was served goes on.
        """
        if label not in self._current:
            raise RefusedError(f"There is no version {label!r} to replace; served are {', '.join(self._current)}.", 422)
        # Its name alone: what holds the version itself would keep its memory.
        before = self._current[label].version
        path = run or self._current[label].run.path
        try:
            await self._take(path, label)
        except Exception as error:  # whatever it is, it is logged and answered, and what is served goes on
            self._metrics.reloads.labels("refused").inc()
            known = isinstance(error, AllmrecError)
            words = str(error) if known else f"it fails with {type(error).__name__}"
            log("reload refused", logging.ERROR, None if known else error, run=str(path), reason=words)
            raise RefusedError(f"{path} was refused, and version {before} goes on: {words}", 409) from error
        self._metrics.reloads.labels("taken").inc()
        return before, self._current[label]

    async def refresh(self, version: int, wait: bool = False) -> None:
        """Know the items of the state where another process, or this one, changed them.

        Args:
            version: of the items, as the state says now.
            wait: until they are known even where a version is being loaded, which takes long; else requests are answered with
                the items last known until it is there.
        """
        if version <= self._seen or (self._loading and not wait):
            return
        async with self._changing:
            if version <= self._seen:
                return
            await self._read()
            made = {label: await self._with_items(base) for label, base in self._loaded.items()}
            self._current.update(made)

    async def _take(self, run: Path, label: str) -> None:
        async with self._changing:
            self._loading = True
            try:
                await self._loaded_and_tried(run, label)
            finally:
                self._loading = False

    async def _loaded_and_tried(self, run: Path, label: str) -> None:
        base = await asyncio.to_thread(load, run, self._config, label)
        if self._seen < 0:
            try:
                await self._read()
            except AllmrecError as error:
                # Served without them until the database is back, and that is logged.
                log("state not read", logging.ERROR, reason=str(error))
        made = await self._with_items(base)
        await asyncio.to_thread(self._try_out, made)
        before = None
        if label in self._current:
            before = weakref.ref(self._current[label])
            self._metrics.model.labels(label, self._current[label].version).set(0)
        self._loaded[label], self._current[label] = base, made
        self._kept = {key: rows for key, rows in self._kept.items() if key in self._versions()}
        self._metrics.model.labels(label, made.version).set(1)
        await asyncio.to_thread(_settle)
        if before is not None and before() is not None:
            leaving = asyncio.get_running_loop().create_task(_settle_without(before))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        log("version taken", run=str(run), label=label, version=made.version, systems=list(made.offers))

    def _versions(self) -> set[tuple[str, str]]:
        return {(one.label, one.version) for one in self._loaded.values()}

    async def _read(self) -> None:
        items, withdrawn, version = await self._items()
        self._stored, self._seen = (tuple(items), tuple(withdrawn)), version

    async def _with_items(self, base: Served) -> Served:
        made = self._encoder.submit(object(), lambda bases: [self._made(one) for one in bases], base, force=True)
        done: Served = (await asyncio.wrap_future(made)).value
        return done

    def _made(self, base: Served) -> Served:
        items, withdrawn = self._stored
        # What a later training knows by itself is no new item any more.
        new = [item for item in items if item.item_id not in base.dataset.items]
        if base.speaker is None:
            rows = [NewItem.model_validate(vars(item)) for item in new]
            return base.with_items(rows, None, withdrawn)
        kept = self._kept.setdefault((base.label, base.version), {})
        for item in kept.keys() - set(new):
            del kept[item]
        if not new:
            return base.with_items((), None, withdrawn)
        rows, vectors = self.encode(base, new, keep=True)
        return base.with_items(rows, vectors, withdrawn)

    def encode(
        self, served: Served, items: Sequence[StoredItem], keep: bool = False
    ) -> tuple[list[NewItem], NewVectors]:
        """What the encoder makes of items; called in its lane.

        Args:
            served: the version that is to know them.
            items: they need not be stored.
            keep: whether they are about to be, so that they are not encoded again.

        Raises:
            ConfigError: nothing is served that reads texts, or an item does not fit.
        """
        speaker = self._loaded.get(served.label, served).speaker or served.speaker
        if speaker is None:
            raise ConfigError(
                "Nothing that reads texts is served here, so new items cannot be taken up. Train A-LLMRec."
            )
        kept = self._kept.setdefault((served.label, served.version), {})
        missing = [item for item in dict.fromkeys(items) if item not in kept]
        fresh: dict[StoredItem, _Row] = {}
        if missing:
            rows = [NewItem.model_validate(vars(item)) for item in missing]
            q, has_text, texts = speaker.vectors_of(rows)
            for n, item in enumerate(missing):
                one = slice(n, n + 1)
                fresh[item] = (q[one], has_text[one], None if texts is None else (texts[0][one], texts[1][one]))
        self._metrics.reused.labels("encoded").inc(len(missing))
        self._metrics.reused.labels("kept").inc(len(items) - len(missing))
        if keep:
            kept.update(fresh)
        parts = [fresh[item] if item in fresh else kept[item] for item in items]
        q, has_text = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        pairs = [part[2] for part in parts if part[2] is not None]
        texts = None
        if len(pairs) == len(parts):
            texts = (torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs]))
        return [NewItem.model_validate(vars(item)) for item in items], (q, has_text, texts)


async def _settle_without(version: weakref.ref[Served]) -> None:
    """Settle once the last request that began with a version is answered: its model is not freed by being let go alone."""
    while version() is not None:
        await asyncio.sleep(_LOOKS)
    await asyncio.to_thread(_settle)


def _settle() -> None:
    """Take what is loaded out of the garbage collector's sight, so that no request waits while it is looked through.

    What a version left behind that is served no more was out of sight too, and is collected now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    give_back_memory()
