"""Speed at the paper's size: OPT-6.7B with random weights, on a GPU.

    python -m benchmarks.opt_speed RUN TOKENIZER

The run gives the CF model, joint vectors, users and titles; the tokenizer any folder whose ids fit OPT's 50,272. Of the
prompt forms `paper` and `copy`: training samples a second, users a second by `score` and by `generate`, and what share of the
card's own matrix rate that is, at 2PT floating-point operations forward and 4PT forward and backward to the inputs (P weights
of the layers, T real tokens). The paper's program took about 0.5 s a user on an A6000.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from allmrec.evaluation import draw_protocol
from allmrec.library import Run
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.recommend.answering import answers
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.score import TitleTree
from allmrec.recommend.tune import StageTwoBatch, TuneConfig, stage_two_batches
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

# Of the configuration facebook/opt-6.7b.
_SIZES = {"hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32, "num_attention_heads": 32}


def random_opt(tokenizer: Path, device: str, small: bool) -> TransformersLM:
    """OPT of the paper's size, or a small one to try the script with, its weights drawn on the device."""
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM  # slow to import

    sizes = _SIZES if not small else _SIZES | {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip
    config = OPTConfig(**sizes, vocab_size=50272, word_embed_proj_dim=sizes["hidden_size"])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = OPTForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return TransformersLM(model, AutoTokenizer.from_pretrained(tokenizer), "OPT-6.7B, random weights")


def matrix_rate(device: str, size: int) -> float:
    """Floating-point operations a second of a bfloat16 product of random matrices."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    seconds = timed(lambda: left @ right, 10)
    return 2 * size**3 / seconds


def timed(work: Callable[[], Any], times: int) -> float:
    """Seconds of one call, the mean of `times` after two that are not counted."""
    for _ in range(2):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


class Measured:
    """One prompt form on one run, and its rates."""

    def __init__(self, run: Run, lm: TransformersLM, form: str, rate: float) -> None:
        template = PromptTemplate(form=form)  # type: ignore[arg-type]  # pydantic checks the name
        self._prompt = PromptConfig(template=template, budget=PromptBudget(title_tokens=24 if form == "paper" else 8))
        self._run, self._lm, self._form, self._rate = run, lm, form, rate
        joint, titles = run.joint(), run.dataset.catalogue.titles
        self._ranker = PromptedRanker(lm, run.backbone(), joint, titles, self._prompt).to(run.device)
        body = [p for name, p in lm.frozen.module.named_parameters() if ".layers." in name]
        self._weights = sum(p.numel() for p in body)

    def training(self, size: int, times: int, pool: int | None) -> dict[str, Any]:
        config = TuneConfig(prompt=self._prompt, pool=pool, validation_users=0)
        config = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": size})})
        self._ranker.train()
        batches = list(stage_two_batches(self._ranker, self._run.split, config, 0)[: times + 2])
        place = iter(range(len(batches)))

        def step() -> None:
            batch = batches[next(place)]
            found = self._ranker.losses(batch.queries, batch.candidates, batch.targets, title=True, select=False)
            if found.title is not None:
                found.title.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations

        seconds = timed(step, len(batches) - 2)
        self._ranker.eval()
        tokens = sum(self._trained_tokens(batch, pool) for batch in batches[2:]) / (len(batches) - 2)
        return self._row(f"training, batches of {size}", size, seconds, 4 * self._weights * tokens, tokens)

    def _trained_tokens(self, batch: StageTwoBatch, pool: int | None) -> int:
        builder = self._ranker.builder
        wanted = [int(c[t]) for c, t in zip(batch.candidates, batch.targets, strict=True)]
        own = sum(len(builder.titles[i]) for i in wanted)
        prompts = self._ranker.prompts(batch.queries, batch.candidates)
        if not builder.template.is_shared:
            return sum(map(len, prompts)) + own
        items = {int(i) for c in batch.candidates for i in c}
        blocks = sum(len(builder.build([], [i])) - len(builder.build([], [i]).ids[builder.build([], [i]).blocks < 0]) for i in items)  # fmt: skip
        words = [int((p.blocks < 0).sum()) for p in prompts]
        return blocks + sum(words) + own

    def scoring(self, size: int, times: int) -> dict[str, Any]:
        protocol = draw_protocol(self._run.split, "test", None, 20, 0).first(size * (times + 2))
        queries = protocol.queries(self._run.split)
        place = iter(range(0, len(queries), size))
        self._ranker.keeps_items = True

        def step() -> None:
            rows = slice((start := next(place)), start + size)
            with torch.inference_mode():
                self._ranker.title_likelihoods(queries[rows], protocol.candidates[rows])

        seconds = timed(step, times)
        if self._ranker.builder.template.is_shared:
            # Items are kept: what is read of a user depends on who was asked before.
            return self._row(f"score, {size} users at once", size, seconds, None, None)
        tokens = 0
        for query, candidates in list(zip(queries, protocol.candidates, strict=True))[-size:]:
            (prompt,) = self._ranker.prompts([query], [candidates])
            tree = TitleTree.build([self._ranker.builder.titles[int(i)] for i in candidates], self._lm.eos_id)
            tokens += len(prompt) + len(tree.tokens)
        return self._row(f"score, {size} users at once", size, seconds, 2 * self._weights * tokens, tokens)

    def generating(self, size: int, times: int) -> dict[str, Any]:
        protocol = draw_protocol(self._run.split, "test", None, 20, 0).first(size * (times + 2))
        queries = protocol.queries(self._run.split)
        place = iter(range(0, len(queries), size))

        def step() -> None:
            rows = slice((start := next(place)), start + size)
            answers(self._ranker, queries[rows], list(protocol.candidates[rows]), GenerateConfig())

        seconds = timed(step, times)
        return self._row(f"generate, {size} users at once", size, seconds, None, None)

    def _row(self, what: str, users: int, seconds: float, operations: float | None, tokens: float | None) -> dict[str, Any]:  # fmt: skip
        row = {"form": self._form, "what": what, "per_second": users / seconds, "seconds_each": seconds / users}
        if operations is not None and tokens is not None:
            row |= {"tokens_each": tokens / users, "share_of_matrix_rate": operations / seconds / self._rate}
        print(row, flush=True)
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a small OPT, to try the script")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "opt-speed.json")
    arguments = parser.parse_args()
    about = measured_by("opt_speed")
    started = time.perf_counter()
    rate = matrix_rate(arguments.device, 512 if arguments.small else 8192)
    lm = random_opt(arguments.tokenizer, arguments.device, arguments.small)
    print(f"matrix rate {rate / 1e12:.0f} TFLOP/s, model there after {time.perf_counter() - started:.0f} s", flush=True)
    run = Run.open(arguments.run, arguments.device)
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        write_result(arguments.output, about | {"matrix_rate": rate, "peak_memory": peak, "rows": rows})

    for form in ("paper", "copy"):
        measured = Measured(run, lm, form, rate)
        keep(measured.training(4, 6, None if form == "paper" else 32))
        keep(measured.training(16, 4, None if form == "paper" else 64))
        keep(measured.scoring(8, 6))
        keep(measured.scoring(32, 4))
        keep(measured.generating(32, 2))
    shown = Table("form", "what", "a second", "seconds each", "tokens each", "share of matrix rate")
    for row in rows:
        share = f"{row['share_of_matrix_rate']:.2f}" if "share_of_matrix_rate" in row else ""
        tokens = f"{row['tokens_each']:.0f}" if "tokens_each" in row else ""
        shown.add_row(row["form"], row["what"], f"{row['per_second']:.1f}", f"{row['seconds_each']:.4f}", tokens, share)
    Console(width=140).print(shown)


if __name__ == "__main__":
    main()
