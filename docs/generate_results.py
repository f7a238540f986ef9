"""Writes docs/results.md, and README's table of systems, from the files under benchmarks/results; computes no figure.

    python docs/generate_results.py

`tests/docs/test_results.py` fails when the page or the table is not what this writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The page's parts lie beside this file, however it is loaded.
sys.path.append(str(Path(__file__).parent))
import results_copying
import results_experiments
import results_growth
import results_month
import results_towers

TARGET = Path(__file__).with_name("results.md")
README = Path(__file__).parents[1] / "README.md"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

_HEAD = """\
# Measured on real sets

Written by `python docs/generate_results.py` from [benchmarks/results](../benchmarks/results), where every file has the device,
date, commit and command of each of its figures. Do not edit it by hand. Brackets are 95 % bootstrap intervals over users
([measuring.md](measuring.md)). Where nothing else is said it ran on x86-64 CPUs with one thread, many jobs
beside one another: times are CPU seconds where they say so, and otherwise say little.

The sets: Amazon's Video Games (2018) and Beauty (2014), 5-core, at most 50 interactions a user, as tables of user, item, position and
title (`allmrec prepare table`), and MovieTweetings' 100K snapshot, 5-core counted until nothing changes
(`allmrec prepare movietweetings DIRECTORY --core 5 --core-passes all`).
"""

_BY_TITLES = """\
## The paper's objective: A-LLMRec by titles

Stage 2 trained by the title loss alone in the prompt form `copy` ([prompt_forms.md](prompt_forms.md)): no pointer head, no prior, all 30
layers of SmolLM2-135M in bfloat16, every candidate's title scored. One H200, 2026-11-26, about twelve cells at a time on it, so seconds say
little: `python -m benchmarks.titles plan benchmarks/titles_gpu.toml --jobs 12 --limit 476` behind CF models and stage 1 that were
trained on a CPU ([titles.toml](../benchmarks/titles.toml)). Each table's file under [titles/](../benchmarks/results/titles) has
its cells' settings, commit, device, date and learning curve.

51,200 samples (800 steps of 64) in the rows called seed, drawn from all positions, slots that carry e and q. All 4,333 users are
asked, `vectors exchanged` about 1,000: the trained system with users' and items' vectors exchanged among one another and the words as
they are; chance is 0.05. The other cells change one thing in seed 0: `slots-e` fills slots with e alone; `positions-last` trains on each
user's last item only, twelve times over; `mlp-llm` goes straight from CF vectors; `gru4rec` stands on that CF model; `a-fifth` has 10,240 samples in
the form `copy`, and `paper-form` has five times as many, 51,200, in the paper's own form; TALLRec has 12,800 samples
and twice the tokens of seed 0 (below). A row named after seeds is the mean over them, its interval over users. "Less" is paired with
the CF model of the same seed. Cold are users whose target is among the coldest 35 % of items. A decoded answer counts where it
is a candidate's title exactly, as the prompt shows it.

What it says:

- **The objective works, and the form decides.** From a fifth of the samples the form `copy` has 0.363, the paper's form 0.228
  from all of them; LLM-Only is at chance, TALLRec at 0.199. Exchanged vectors leave 0.075: what is right comes through the slots.
- **It is not SASRec's equal.** 0.091 of Hit@1 are missing (the aim was 0.02), and popularity, very strong on this set, is still 0.011 ahead.
- **Why** is underfitting, not overfitting. On samples that it was trained on it is no better than on test users (seed 0, {users}
  users each, [titles-why.json](../benchmarks/results/titles-why.json): {trained:.3f} on last training items, where SASRec has {trained_cf:.3f}, and
  {tested:.3f} on test items, where SASRec has {tested_cf:.3f}), and 51,200 samples bring 0.055 more than 10,240 do (seed 0). Where SASRec's
  first choice is far ahead of its second (by more than a standard deviation of the user's scores), A-LLMRec still chooses another item for
  {other:.0%} of users. The frozen model's copying finds roughly the right neighbourhood; two projections in front of it do not make it
  compare as finely as a dot product does. Whether a language model of the paper's size would is not measured.
- **Cold targets are not won**: no variant by titles is above SASRec on them with an interval; why, stands below.
- Decoding is valid for 95 to 97 of 100 answers (the aim was 99). A third of the others were right by all that the prompt shows; see below.
"""

_TOKENS = """\
### Compute in tokens

The frozen language model multiplies its weights with every token that it reads, forward and backward, for A-LLMRec as for TALLRec, so
tokens compare their compute on any machine. Counted over one epoch of seed 0's samples, the answer's tokens among them, padding and
validation not ({measured}). A sample of TALLRec takes
{each:.1f} times the tokens of one in the form `copy`, whose items are read once for a batch of 64 users; in all, the row TALLRec above has
read {whole:.1f} times as many tokens as the rows called seed. So the comparison above is not to TALLRec's disadvantage in compute.
"""

_COLD = """\
### Why cold targets are not won

{measured}. Read are the ranks of the three seeds' rows above, for all {stored_users} users with a cold target; and the candidates of the first
{scored_users} of them were scored anew by seed 0's weights, which were trained on the H200 and stand under today's names of the settings. An item is cold
here with {most_interactions} training interactions at the most; a list has {cold_candidates:.1f} cold items of 20.

- **It is lost against the warm items, not among the cold ones.** Among the cold candidates alone A-LLMRec puts the target first as often
  as the CF model does ({scored_users} users, chance {chance:.3f}). But its first choice of all is a cold item for one user in twenty, although each of these targets is one.
  Its ranks of targets follow popularity as closely as the CF model's do. Both learn from samples whose targets are cold in {training_cold:.1%} (test targets
  in {test_cold:.1%}) while their negatives, drawn uniformly, are cold in 35 %; what other samples would give was not tried.
- **It keeps a third of what x_u · E_i has.** Where the CF model has a cold target first, A-LLMRec has it first in one case of six; where the CF
  model has it sixth or later, which is in 78 % of cases, A-LLMRec has it first in 0.6 %. So the CF vectors are the first bottleneck,
  and reading them through two projections the second.
- **Text does not make up for it.** Similarity of titles alone, trained on nothing, has more cold targets first than A-LLMRec and a better mean rank; but
  where it has the target first, A-LLMRec has it in 2.2 %, hardly more than elsewhere. With text vectors in place of the CF vectors in the slots it is the CF
  model's equal on cold targets, and falls to 0.100 on everybody; the cold rule, whose threshold is chosen on all validation items, takes none.
- **The ceiling is low.** The CF model or similarity of titles, whichever is right, has {either} of them first.
"""

_COLD_SLOTS = """\
The same users by what fills the slots (seed 0; in `slots-e` the projections were trained on e):
"""

_COLD_RANKS = """\
A-LLMRec's answers where the CF model, or the similarity of titles, has the cold target first, second to fifth, or later (the seeds' users
together, so these intervals are somewhat too narrow):
"""

_COLD_SCORED = """\
Scored anew, {users} users with a cold target. "Ahead of" is the share of the other candidates of that kind that the target is ahead of (0.5 by
chance). Correlations are Spearman's, within each list. Popularity taken out: the score less that many times ln(1 + interactions), in the
scores' own units, so weights compare within one system. What it costs with other targets was not measured here.
"""

_COLD_LENGTHS = """\
The length of a title hardly varies here: targets are shown with 7 or 8 tokens, which is where titles are cut (all users, three seeds).
"""

_ANSWERS = """\
### Answers that are no title

Seed 1, whose answers are valid least often ({measured}; its first {answers} test users). Of {invalid} answers that were no
candidate's title:

- {beyond} said all that the prompt shows of a title that is cut at 8 tokens, and one token more in place of the end. {cut:.0%} of the titles are cut, and
  of those the prompt does not say what comes next. That was a fault of how answers were read, and since then what follows a cut title is not
  counted against the answer ({after}).
- {stopped} stopped within a title that is cut: `The Butterfly Effect (200` for `(2004`, or before a bracket.
- The other {wrong} are wrong words. Copying goes astray in the midst of a title: `The Machinery (2004` for `The Machinist (2004`, `Pirates of the Beach`,
  a year of the model's own. None is the title of an item outside of the list, none is ambiguous, and no list showed two titles alike.

Writing along the candidates' titles (`allmrec-constrained`) mends all of them and is right more often.
"""


_BEAUTY_GAMES = """\
### Beauty and Video Games

The same 51,200 samples, one seed, the first 5,000 users; titles are cut at 8 tokens. Here A-LLMRec is far above popularity, and as
far below SASRec.
"""

_OPT = """\
### Speed at the paper's size

OPT-6.7B with random bfloat16 weights on one {device}: `{command}`, {date}. P is 6.4 billion weights in
layers; the card multiplies matrices of 8,192 at {rate:.0f} TFLOP/s. Operations are 4PT for training (forward, and backward to the inputs) and 2PT
for scoring. The paper's program took about 0.5 s a user on an A6000.
"""


_LITERATURE = """\
**Beside others.** On Amazon's Beauty of 2014 with the whole catalogue, SASRec's NDCG@10 is given as 0.028 (Hit@10 0.063) by
the authors of [DuoRec](https://github.com/RuihongQiu/DuoRec), as 0.042 (0.083) for RecBole's cross-entropy in [its issue
1290](https://github.com/RUCAIBox/RecBole/issues/1290), and as 0.038 (0.069) by [genrec](https://phonism.github.io/genrec/en/models/sasrec);
the row above is ahead of them, by a softmax over cosines with the whole catalogue. For MovieTweetings we know of no figures.
"""


_ENCODERS = """\
## Which encoder for items' texts

Titles of Beauty's {texts:,} items by two sentence encoders and by hidden states of a language model (`texts.source`, `texts.llm`), x86-64 CPU with
AVX512-BF16, one thread beside other work, {date} (all-mpnet-base-v2: {other_date}): `python -m
benchmarks.item_encoders` ([item-encoders.json](../benchmarks/results/item-encoders.json)).
Nothing is trained in the first table: the whole catalogue is ranked for 5,000 validation users by cosine to the last item of the history
alone, NDCG@10. Centred: the catalogue's mean taken out. Whitened: all principal components scaled alike. `mean`: over a title's own tokens; `last`: the
last token of "{prompt}". SmolLM2's states have the model's final norm behind them, whichever layer they come from.

Whitening helps in every row, by 0.002 to 0.011. all-mpnet-base-v2, five times MiniLM's size, is below it, at seven times its cost. Once whitened, the mean over a title's tokens is better than the prompt's last token at each layer, and
the earliest layer that was tried is the best: what a title is good for here is mostly its words. One set, and no intervals.
"""

_ENCODER_TOWERS = """\
The text tower over some of these ({epochs} epochs from scratch, two blocks, dim 128, softmax over the catalogue, seed 0), NDCG@10 over the whole
catalogue for the same validation users after each epoch. So few epochs compare how fast encoders are learned from, not where training ends.
"""

_ENCODER_COSTS = """\
What a million titles cost in seconds of one core, at the rate that was measured on this set's titles (19 tokens each in SmolLM2's). Layers above
the one that is read are not run; the last row ran all thirty layers and the prompt of `last` besides:
"""


_LLM_SREC = """\
## LLM-SRec

A small run on MovieTweetings: SmolLM2-135M, the first {layers} of its 30 layers, {samples} samples (each user's last training item, {epochs}
times), histories of {history} items, {users} test users, one seed: `{command}`, on {device}, {date}. Training took {seconds:,.0f} s beside
other jobs, evaluation of all three rows {evaluated:,.0f} CPU seconds. [baselines.md](baselines.md#llm-srec) says what is the paper's and what is
ours. It says nothing of LLM-SRec with a language model and a training of the paper's size.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    if found := _read("titles/movietweetings"):
        parts += [
            _BY_TITLES.format(**_why()),
            "### MovieTweetings\n",
            _table(_title_rows(found["rows"])),
            _title_notes(found["rows"]),
        ]
        parts.append(_adds(found["language_model_adds"]["all"]))
        parts += [part for reason in (_tokens, _cold, _answers) for part in reason()]
        if tried := _read("titles/copying"):
            parts += results_copying.copying(_title_rows(tried["rows"]), tried["cells"], _table)
        parts.append(_BEAUTY_GAMES)
        for name in ("beauty", "games"):
            if rows := _read(f"titles/{name}"):
                parts += [f"{name}:\n", _table(_title_rows(rows["rows"])), _title_notes(rows["rows"])]
    if opt := _read("opt-speed"):
        parts += [
            _OPT.format(
                device=opt["device"], command=opt["command"], date=opt["date"][:10], rate=opt["matrix_rate"] / 1e12
            ),
            _table(_opt_rows(opt["rows"])),
        ]
    parts += results_experiments.section(RESULTS / "experiments", _table)
    if found := _read("towers/table"):
        parts += [*results_towers.section(found, _read("rectools"), _table, _figure), _LITERATURE]
    for key, title, name in (
        (
            "movietweetings-cpu",
            "A-LLMRec on top, and what order is worth",
            "Everything that the recipe `cpu` trains on MovieTweetings",
        ),
        ("llm-srec", "LLM-SRec: order", "LLM-SRec (below) and its own CF model, on MovieTweetings"),
    ):
        if found := _read(f"catalogue-{key}"):
            parts += results_towers.on_top(found, title, name, _table, _figure)
            if key == "movietweetings-cpu":
                parts += [results_towers.why_not(row, _figure) for row in found["random_order"]]
    if found := _read("month"):
        parts += results_month.section(found, _table, _figure)
    if found := _read("month-stages"):
        parts += results_month.stages_section(found, _table, _figure)
    if found := _read("llm-srec"):
        parts += [_LLM_SREC.format(**_srec_sizes(found)), _table(_srec_rows(found))]
    if found := _read("item-encoders"):
        parts += _encoders(found)
    if found := _read("growth"):
        parts += results_growth.section(found, _table)
    return "\n".join(parts)


def readme() -> str:
    """README with its table of systems."""
    begin, end = "<!-- table1 -->\n", "<!-- end -->"
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    table = results_experiments.table1(RESULTS / "experiments", _table)
    return before + begin + (table or "") + end + rest.partition(end)[2]


def _encoders(found: Mapping[str, Any]) -> list[str]:
    """Encoders of items' texts compared."""
    encoders = found["encoders"]
    llm = next(about for about in encoders.values() if "prompt" in about)
    by_way: dict[str, dict[str, float]] = {}
    for row in found["neighbours"]:
        by_way.setdefault(row["vectors"], {})[row["as"]] = row["ndcg@10"]
    rows = [["vectors", "raw", "centred", "whitened"]]
    for name in sorted(by_way, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split("-")]):
        rows.append([name, *(f"{by_way[name][way]:.4f}" for way in rows[0][1:])])
    other_date = encoders["all-mpnet-base-v2"]["date"][:10]
    about = {"texts": llm["texts"], "date": llm["date"][:10], "other_date": other_date, "prompt": llm["prompt"]}
    parts = [_ENCODERS.format(**about), _table(rows)]
    if towers := found.get("towers"):
        epochs = max(len(row["validation"]) for row in towers)
        rows = [["vectors", "read as", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))]]
        rows += [[row["vectors"], row["as"], *(f"{value:.4f}" for value in row["validation"])] for row in towers]
        parts += [_ENCODER_TOWERS.format(epochs=epochs), _table(rows)]
    rows = [["encoder", "texts that were timed", "seconds a million"]]
    costs = [(row["vectors"] + f', "{row["prompt"]}"', row) for row in found.get("costs", [])]
    for name, row in [*sorted(encoders.items())[:1], *costs, *sorted(encoders.items())[1:]]:
        rows.append([name, f"{row['texts']:,}", f"{row['seconds_a_million']:,.0f}"])
    return [*parts, _ENCODER_COSTS, _table(rows)]


def _title_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row a system and cell: everybody that was asked, and those with a cold target."""
    shown = [
        [
            "system",
            "cell",
            "users",
            "Hit@1",
            "NDCG@10",
            "Hit@1 less",
            "cold users",
            "cold Hit@1",
            "cold less",
            "users/s",
        ]
    ]
    for row in sorted(rows, key=lambda row: (row["cell"], row["key"])):
        cells = []
        for group in ("all", "cold items"):
            found = row["figures"].get(group, {})
            only_cold = group == "all" and row["figures"].get("cold items", {}).get("users") == found.get("users")
            if not found or only_cold:
                cells += ["", "", "", ""]
                continue
            less = found.get("less reference")
            cells += [
                f"{found['users']:,}",
                _figure(found["Hit@1"]),
                _figure(found["NDCG@10"]),
                _figure(less["Hit@1"], "+") if less else "",
            ]
        del cells[6]
        shown.append([row["system"], row["cell"], *cells, f"{row['users_per_second']:,.3g}"])
    return shown


def _title_notes(rows: Sequence[Mapping[str, Any]]) -> str:
    notes = dict.fromkeys(f"- {row['system']} ({row['cell']}): {row['note']}" for row in rows if row["note"])
    return "\n".join(notes) + "\n"


def _why() -> dict[str, float]:
    found = _read("titles-why")
    if found is None:
        raise SystemExit(
            "benchmarks/results/titles-why.json is missing; python -m benchmarks.titles_why RUN writes it."
        )
    return {
        "users": found["test"]["users"],
        "trained": found["training"]["titles"]["value"],
        "trained_cf": found["training"]["cf"]["value"],
        "tested": found["test"]["titles"]["value"],
        "tested_cf": found["test"]["cf"]["value"],
        "other": 1 - found["by_margin"][-1]["agree"],
    }


def _measured(found: Mapping[str, Any]) -> str:
    return f"{found['device']}, {found['date'][:10]}, commit {found['commit'][:7]}: `{found['command']}`"


def _tokens() -> list[str]:
    """What both read in training."""
    found = _read("titles-tokens")
    if found is None:
        return []
    rows = [["prompt", "tokens a training sample", "samples of its row above", "tokens in all"]]
    own = {"A-LLMRec, copy": found["trained"]["A-LLMRec"], "TALLRec": found["trained"]["TALLRec"]}
    for name, row in found["rows"].items():
        trained = own.get(name)
        rest = [f"{trained['samples']:,}", f"{trained['tokens'] / 1e6:.2f} million"] if trained else ["", ""]
        rows.append([name, f"{row['tokens_each']:.1f}", *rest])
    return [
        _TOKENS.format(measured=_measured(found), each=found["a_sample"], whole=found["the_training"]),
        _table(rows),
    ]


def _cold() -> list[str]:
    """Why cold targets are not won."""
    found = _read("titles-cold")
    if found is None:
        return []
    stored, scored = found["stored"], found["scored"]
    everybody = [["where the target stands", "cold Hit@1", "less CF", "cold Hit@5", "mean rank, cold", "mean rank, others",
                  "correlation with its rank by popularity"]]  # fmt: skip
    for name, row in stored["systems"].items():
        everybody.append([name, _figure(row["cold Hit@1"]), _figure(row["less CF"], "+"), _figure(row["cold Hit@5"]), _figure(row["cold mean rank"]),
                          _figure(row["other mean rank"]), _figure(row["follows popularity"], "+")])  # fmt: skip
    slots = [["slots", "run", "cold Hit@1", "less CF", "mean rank"]]
    for name, row in stored["slots"].items():
        slots.append([name, row["run"], _figure(row["Hit@1"]), _figure(row["less CF"], "+"), _figure(row["mean rank"])])
    by_rank = [
        ["a cold target's rank by", "rank", "share of cold targets", "A-LLMRec's Hit@1 there", "Hit@5", "mean rank"]
    ]
    for row in stored["by rank"]:
        figures = [_maybe(row[key]) for key in ("Hit@1", "Hit@5", "mean rank")]
        by_rank.append([row["system"], _span(row), f"{row['share']:.2f}", *figures])
    first = [
        [
            "scored by",
            "Hit@1",
            "among cold candidates",
            "less CF",
            "first choice is cold",
            "ahead of warm ones",
            "ahead of cold ones",
        ]
    ]
    by_count = [["scored by", "all candidates", "cold ones", "warm ones"]]
    without = [["scored by", "popularity taken out", "cold Hit@1", "less CF likewise"]]
    for name, row in scored["systems"].items():
        first.append([name, _maybe(row["Hit@1"]), _maybe(row["Hit@1 among cold candidates"]), _maybe(row["among cold less CF"], "+"),
                      _maybe(row["first choice is cold"]), *(_maybe(row["ahead of"][kind]) for kind in ("warm", "cold"))])  # fmt: skip
        by_count.append([name, *(_maybe(row["correlation with log popularity"][kind], "+") for kind in ("all", "cold", "warm"))])  # fmt: skip
        without += [[name, f"{part['weight']:.1f}", _maybe(part["Hit@1"]), _maybe(part["less CF"], "+")] for part in row["popularity taken out"]]  # fmt: skip
    lengths = [["tokens of the target's title", "users", "of them cold", "Hit@1", "less CF"]]
    lengths += [
        [_span(row), f"{row['users']:,}", str(row["cold"]), _figure(row["A-LLMRec"]), _figure(row["less CF"], "+")]
        for row in stored["by length"]
    ]
    return [
        _COLD.format(measured=_measured(found), stored_users=stored["cold users"], scored_users=scored["users"],
                     cold_candidates=scored["cold candidates"], chance=scored["chance among cold"],
                     either=_figure(stored["CF or words first"]), **found["learned_from"]),
        _table(everybody), _COLD_SLOTS, _table(slots), _COLD_RANKS, _table(by_rank), _COLD_SCORED.format(users=scored["users"]), _table(first),
        _table(by_count), _table(without), _COLD_LENGTHS, _table(lengths),
    ]  # fmt: skip


def _span(row: Mapping[str, Any]) -> str:
    return f"{row['from']}" if row["from"] == row["to"] else f"{row['from']} to {row['to']}"


def _answers() -> list[str]:
    """What a decoded answer is where it is no candidate's title."""
    found = _read("titles-answers")
    if found is None:
        return []
    rows = [
        ["run", "answers", "valid", *found["kinds"], "nearest title is cut", "Hit@1", "along the titles", "difference"]
    ]
    for name, row in found["runs"].items():
        kinds = [str(row["kinds"].get(kind, {"answers": 0})["answers"]) for kind in found["kinds"]]
        cut = sum(kind["cut"] for kind in row["kinds"].values())
        hits = row["Hit@1"]
        rows.append([name.removeprefix("movietweetings-"), f"{row['answers']:,}", f"{1 - row['invalid'] / row['answers']:.3f}", *kinds,
                     f"{cut} of {row['invalid']}", _figure(hits["generate"]), _figure(hits["constrained"]),
                     _figure(hits["constrained less generate"], "+")])  # fmt: skip
    said = "\n".join(
        f"- {kind}, `{one['answer'].strip()}`, nearest to `{one['nearest'].strip()}`"
        f"{' (the beginning of ' + repr(one['its title']) + ')' if one['cut'] else ''}"
        for kind, one in _one_of_each(found["runs"])
    )
    (first,) = found["runs"].values()
    counts = {kind: first["kinds"].get(kind, {"answers": 0})["answers"] for kind in found["kinds"]}
    after = "not measured again"
    if again := _read("titles-answers-cut"):
        (row,) = again["runs"].values()
        after = (
            f"the first {row['answers']} users again, commit {again['commit'][:7]}: {row['valid that went on behind a cut title']} answers are valid by it, "
            f"{1 - row['invalid'] / row['answers']:.3f} of all"
        )
    return [
        _ANSWERS.format(
            measured=_measured(found),
            answers=first["answers"],
            invalid=first["invalid"],
            beyond=counts["went on"],
            cut=first["titles that are cut"],
            stopped=counts["stopped"] + counts["other spelling"],
            wrong=counts["mixture"] + counts["other"],
            after=after,
        ),
        _table(rows),
        said + "\n",
    ]


def _one_of_each(runs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The first two examples of each kind of answer."""
    met: dict[str, list[Mapping[str, Any]]] = {}
    for row in runs.values():
        for one in row["examples"]:
            met.setdefault(one["kind"], []).append(one)
    return [(kind, one) for kind, ones in met.items() for one in ones[:2]]


def _maybe(found: Sequence[float] | None, sign: str = "") -> str:
    """A figure, or nothing of none."""
    return "" if found is None else _figure(found, sign)


def _adds(found: Mapping[str, Any]) -> str:
    less = found["less reference"]
    return (
        "**What the language model adds.** Late fusion of seed 0 (a sum of the CF model's score, similarity of titles, popularity and\n"
        "inverse popularity, its weights fitted on 300 validation users) with A-LLMRec's score as one more part, less late fusion without it, on\n"
        f"{found['users']:,} users, paired: {_figure(less['Hit@1'], '+')} of Hit@1, {_figure(less['NDCG@10'], '+')} of NDCG@10.\n"
    )


def _opt_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    shown = [["form", "what", "a second", "seconds each", "tokens each", "share of the matrix rate"]]
    for row in rows:
        tokens = f"{row['tokens_each']:.0f}" if "tokens_each" in row else ""
        share = f"{row['share_of_matrix_rate']:.2f}" if "share_of_matrix_rate" in row else ""
        each = [f"{row['per_second']:.1f}", f"{row['seconds_each']:.4f}"]
        shown.append([row["form"], row["what"], *each, tokens, share])
    return shown


def _read(name: str) -> dict[str, Any] | None:
    """A table whose figures were computed; each row of systems with what its cell says of it."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    cells = found.get("cells")
    if isinstance(cells, dict):
        if "rows" not in found:
            sys.exit(f"{path} has cells and no figures; let its script compute them first (`collect` or `table`).")
        found["rows"] = [cells.get(row["key"], {}) | row for row in found["rows"]]
    return found or None


def _srec_sizes(found: Mapping[str, Any]) -> dict[str, Any]:
    own = found["config"]["systems"]["llm-srec"]
    epochs, users = own["training"]["epochs"], found["data_users"]
    return {
        "layers": own["layers"],
        "epochs": epochs,
        "samples": f"{epochs * users:,}",
        "history": own["max_history"],
        "users": f"{found['candidates'][0]['users']:,}",
        "command": found["command"],
        "device": found["device"],
        "date": found["date"][:10],
        "seconds": found["log"]["seconds"],
        "evaluated": found["evaluation_cpu_seconds"],
    }


def _srec_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [
            "system",
            "Hit@1 of 20",
            "less the CF model",
            "NDCG@10, whole catalogue",
            "Hit@10, whole catalogue",
            "NDCG@10 less",
        ]
    ]
    for few, whole in zip(found["candidates"], found["catalogue"], strict=True):
        less = [part["less"].get(metric) for part, metric in ((few, "Hit@1"), (whole, "NDCG@10"))]
        shown = ["" if value is None else _figure(value, "+") for value in less]
        row = [few["system"], _figure(few["metrics"]["Hit@1"]), shown[0]]
        rows.append([*row, _figure(whole["metrics"]["NDCG@10"]), _figure(whole["metrics"]["Hit@10"]), shown[1]])
    return rows


def _figure(found: Sequence[float], sign: str = "") -> str:
    value, low, high = found
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ruler, *rows[1:])) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
