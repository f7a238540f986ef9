"""The formulas: what each part of the work costs at a size, from measured rates."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from allmrec.planning.rates import Rate
from allmrec.planning.sizes import Row, Size, When

__all__ = ["plan_rows"]

_BYTES_OF_A_NUMBER = 4
# In a prepared data set: an item's number and a time for each interaction, an offset for each user.
_BYTES_OF_AN_INTERACTION, _BYTES_OF_AN_OFFSET = 12, 8
# Weights, gradients and the two moments of Adam.
_COPIES_IN_TRAINING = 4
# Numbers of a vector where retrieval, and where the CF model's training, was measured.
_DIM_OF_SEARCH, _DIM_OF_CF = 128, 50
# Items above which a step of the CF model's training moves only those rows that it looks at (`cf.pretrain`).
_BY_ROWS_ABOVE = 1e6
# The index has 4 bits a number in place of 8 above so many items (`answer.retrieve.compressed_above`).
_COMPRESSED_ABOVE = 1e7
# Numbers of a token's hidden state.
_DIMS_OF_LLMS = {"facebook/opt-6.7b": 4096, "smollm2-135m-instruct": 576}


def plan_rows(size: Size, rates: Mapping[str, Rate]) -> list[Row]:
    """Every row, in the order of the work.

    Time grows with the number of what is worked on, at the rate that was measured at a smaller size; several cores or cards
    share it evenly. Both are assumptions, and the page says so.
    """
    plan = _Plan(size, rates)
    return [*plan.data(), *plan.training(), *plan.retrieval(), *plan.scoring(), *plan.serving()]


class _Plan:
    def __init__(self, size: Size, rates: Mapping[str, Rate]) -> None:
        self.size, self.rates = size, rates

    def data(self) -> list[Row]:
        """Preparing, and what lies on the disk."""
        n, size = self.size.interactions, self.size
        disk = n * _BYTES_OF_AN_INTERACTION + size.users * _BYTES_OF_AN_OFFSET
        return [
            self._work(
                "data",
                "prepare in memory",
                "each time",
                n,
                "interactions",
                "prepare.memory",
                memory="prepare.memory.bytes",
            ),
            self._work(
                "data",
                "prepare by DuckDB",
                "each time",
                n,
                "interactions",
                "prepare.duckdb",
                memory="prepare.duckdb.peak",
            ),
            Row(
                "data",
                "the data set on disk, ids and texts aside",
                "each time",
                f"{n:.3g} interactions × {_BYTES_OF_AN_INTERACTION} bytes + {size.users:.3g} users × {_BYTES_OF_AN_OFFSET} bytes",
                bytes=disk,
            ),
        ]

    def training(self) -> list[Row]:
        """The CF model, the items' texts, and both stages."""
        size = self.size
        table = size.items * size.dim * _BYTES_OF_A_NUMBER * _COPIES_IN_TRAINING
        return [
            *self._cf(),
            Row(
                "training",
                "the CF model's item table with gradients and moments",
                "each time",
                f"{size.items:.3g} items × {size.dim} × {_BYTES_OF_A_NUMBER} bytes × {_COPIES_IN_TRAINING}",
                bytes=table,
            ),
            self._held(
                "training", "the data in memory while the CF model is trained", size.users, "users", "cf.memory"
            ),
            self._held("training", "the text tower's training in memory", size.items, "items", "tower.memory"),
            Row("training", "the text tower's training", "each time", _no_rate("tower")),
            self._work("training", "texts of items to vectors (MiniLM)", "once", size.items, "items", "text.items"),
            self._work(
                "training",
                f"stage 1, MiniLM's last layer, {size.align_epochs} epochs",
                "each time",
                size.users * size.align_epochs,
                "users × epochs",
                "align.samples",
            ),
            self._held("training", "stage 1's joint vectors", size.items, "items", "align.memory"),
            self._work(
                "training",
                f"stage 2, {size.tune_epochs} epochs over a sample of users",
                "each time",
                size.tuned_users * size.tune_epochs,
                "users × epochs",
                self._of_llm("tune"),
                memory=self._of_llm("memory"),
            ),
            self._work("training", "item vectors of the LLM", "once", size.items, "items", self._of_llm("items")),
            *self._llm_vectors(),
        ]

    def _cf(self) -> list[Row]:
        """The CF model's training: its users, and up to a million items the whole table of items in every step."""
        size = self.size
        seen = size.users * size.cf_epochs
        if size.items > _BY_ROWS_ABOVE:
            what = f"CF model (SASRec), {size.cf_epochs} epochs, the table of items by rows"
            return [self._work("training", what, "each time", seen, "users × epochs", self._nearest("cf.rows"))]
        steps = seen / size.cf_batch
        return [
            self._work(
                "training",
                f"CF model (SASRec), {size.cf_epochs} epochs: users",
                "each time",
                seen,
                "users × epochs",
                "cf.users",
            ),
            self._work(
                "training",
                f"CF model (SASRec), {size.cf_epochs} epochs: gradients and moments of all items in every step",
                "each time",
                steps * size.items * size.dim / _DIM_OF_CF,
                f"steps × items × {_DIM_OF_CF} numbers ({steps:.3g} × {size.items:.3g} × {size.dim})",
                "cf.items",
            ),
        ]

    def _llm_vectors(self) -> list[Row]:
        dim = _DIMS_OF_LLMS.get(self.size.llm)
        if dim is None:
            return []
        held = self.size.items * dim * _BYTES_OF_A_NUMBER
        formula = f"{self.size.items:.3g} items × {dim} × {_BYTES_OF_A_NUMBER} bytes"
        return [Row("training", "item vectors of the LLM as it gives them, on disk", "once", formula, bytes=held)]

    def retrieval(self) -> list[Row]:
        """The index, and finding candidates for every user and for a request."""
        size = self.size
        millions, share = size.items / 1e6, size.dim / _DIM_OF_SEARCH
        vectors = size.items * size.dim * _BYTES_OF_A_NUMBER
        kind = "ivf-sq4" if size.items > _COMPRESSED_ABOVE else "ivf-sq8"
        of = f"of {_DIM_OF_SEARCH} numbers ({size.items:.3g} of {size.dim})"
        return [
            self._work(
                "retrieval",
                "build the index of items",
                "each time",
                size.items * share,
                f"items {of}",
                self._nearest("index.items"),
            ),
            Row(
                "retrieval",
                "the items' vectors in memory",
                "online",
                f"{size.items:.3g} items × {size.dim} × {_BYTES_OF_A_NUMBER} bytes",
                bytes=vectors,
            ),
            self._held(
                "retrieval",
                f"the index of items in memory ({kind})",
                size.items * share,
                f"items {of}",
                f"index.memory:{kind}",
                "online",
            ),
            self._busy(
                "retrieval", "exact search", millions * share, f"million items {of}", self._nearest("search.exact")
            ),
            self._busy(
                "retrieval",
                "search in the index",
                millions * share,
                f"million items {of}",
                self._nearest("search.index"),
            ),
        ]

    def scoring(self) -> list[Row]:
        """Lists for all users, by the CF model and by the LLM."""
        size = self.size
        return [
            self._work(
                "scoring",
                "candidates of all users from the index",
                "each time",
                size.users * size.items / 1e6 * size.dim / _DIM_OF_SEARCH,
                f"users × million items × {_DIM_OF_SEARCH} numbers ({size.users:.3g} × {size.items / 1e6:.3g} × {size.dim})",
                self._nearest("search.index"),
            ),
            self._work(
                "scoring",
                "20 candidates of all users ranked by the LLM",
                "each time",
                size.users,
                "users",
                self._of_llm("score"),
            ),
        ]

    def serving(self) -> list[Row]:
        """Machines that are busy at a rate of requests."""
        return [
            self._busy("serving", "the CF model's answers, gathered in batches", 1, "", "serve.cf"),
            self._busy(
                "serving",
                "20 candidates ranked by the LLM",
                1,
                "",
                self._of_llm("serve"),
                memory=self._of_llm("memory"),
            ),
        ]

    def _nearest(self, name: str) -> str:
        """The rate that was measured at the number of items nearest to the wanted one, by how many times it is larger or smaller."""
        sizes = [float(known.partition("@")[2]) for known in self.rates if known.startswith(f"{name}@")]
        if not sizes:
            return name
        nearest = min(sizes, key=lambda size: abs(math.log(size / self.size.items)))
        return f"{name}@{nearest:.0f}"

    def _held(self, part: str, what: str, amount: float, called: str, name: str, when: When = "each time") -> Row:
        """Memory that grows with an amount."""
        rate = self.rates.get(name)
        if rate is None:
            return Row(part, what, when, _no_rate(name))
        formula = f"{amount:.3g} {called} × {rate.value:,.4g} {rate.unit}"
        return Row(part, what, when, formula, bytes=amount * rate.value, rate=name)

    def _of_llm(self, what: str) -> str:
        return f"{what}:{self.size.llm}"

    def _shared(self, rate: Rate) -> tuple[float, str]:
        """How many times the machine of a rate there is, and what it is counted in."""
        threads = re.search(r"CPU, ([0-9]+) threads", rate.machine)
        if threads is not None:
            # A rate by the clock is that of all threads which it was measured with.
            return self.size.cores / (1 if "CPU second" in rate.unit else int(threads[1])), "cores"
        return self.size.cards, "cards"

    def _work(
        self, part: str, what: str, when: When, amount: float, called: str, name: str, memory: str | None = None
    ) -> Row:
        """Work whose time grows with an amount."""
        held, note = self._memory(memory)
        rate = self.rates.get(name)
        if rate is None:
            return Row(part, what, when, _no_rate(name) + note, bytes=held)
        machines, kind = self._shared(rate)
        formula = f"{amount:.3g} {called} / {rate.value:,.4g} {rate.unit}" + (
            f" / {machines:g} times its {kind}" if machines != 1 else ""
        )
        return Row(part, what, when, formula + note, amount / rate.value / machines, held, rate=name)

    def _busy(self, part: str, what: str, amount: float, called: str, name: str, memory: str | None = None) -> Row:
        """Machines that a rate of requests keeps busy, each request of which takes so much."""
        held, note = self._memory(memory)
        rate = self.rates.get(name)
        if rate is None:
            return Row(part, what, "online", _no_rate(name) + note, bytes=held)
        _, kind = self._shared(rate)
        formula = f"{self.size.requests:.3g} requests a second" + (f" × {amount:.3g} {called}" if called else "")
        formula += f" / {rate.value:,.4g} {rate.unit} of each {kind.removesuffix('s')}"
        return Row(part, what, "online", formula + note, None, held, self.size.requests * amount / rate.value, name)

    def _memory(self, name: str | None) -> tuple[float | None, str]:
        """Memory that was measured, and its words: grown with the interactions where it is measured for one."""
        rate = None if name is None else self.rates.get(name)
        if rate is None:
            return None, ""
        if rate.unit == "bytes an interaction":
            return (
                self.size.interactions * rate.value,
                f"; memory {self.size.interactions:.3g} interactions × {rate.value:,.4g} bytes",
            )
        return rate.value, f"; memory as measured: {rate.what}"


def _no_rate(name: str) -> str:
    """What stands for a formula where nothing was measured."""
    model = name.partition(":")[2]
    return "no measured rate" + (f" for {model}" if model else "")
