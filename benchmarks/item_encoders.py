"""Encoders of items' texts compared: sentence encoders and hidden states of a language model, raw, centred and whitened.

    python -m benchmarks.item_encoders encode DATA FOLDER --encoder all-MiniLM-L6-v2
    python -m benchmarks.item_encoders encode DATA FOLDER --llm smollm2-135m-instruct --layers 8 14 20 26 30
    python -m benchmarks.item_encoders cost DATA FOLDER --llm smollm2-135m-instruct --layers 8 --prompt "{text}"
    python -m benchmarks.item_encoders neighbours DATA FOLDER
    python -m benchmarks.item_encoders tower DATA FOLDER --vectors NAME [--whiten 256]

DATA is a folder that `allmrec prepare` wrote. `encode` computes each vector once and keeps it in FOLDER, `cost` times one layer alone on some texts, `neighbours` ranks the whole
catalogue for validation users by cosine to the last item of the history alone, and `tower` trains the text tower for a few epochs and
measures it on the same users. One thread; CPU seconds. The last three add their rows to benchmarks/results/item-encoders.json.
The tower whitens what it reads; rows of towers that say `centred` were measured before it did, at the commit that they name.

All layers of a language model come from one pass: what `hidden(layers=n)` gives is the state behind layer n under the final norm,
and that this is so is checked on eight texts before. Both ways of pooling come from the same pass too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.validation import ValidationSample
from allmrec.cf.whitening import Whitening
from allmrec.core.artifacts import read_json, read_tensors, write_json, write_tensors
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.text.bank import TextBank
from allmrec.text.causal import CausalConfig, CausalEncoder
from allmrec.text.encoder import EncoderConfig, load_encoder
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, read_table, write_result

TARGET = RESULTS / "item-encoders.json"
PROMPT = "{text} This item in one word:"


class SeveralLayers:
    """A language model whose hidden states are those of several layers behind one another."""

    def __init__(self, lm: TransformersLM, layers: Sequence[int]) -> None:
        self._lm, self._layers = lm, layers
        reader = lm._reader
        self._reader, self._norm = reader, reader.body.norm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lm, name)

    @property
    def hidden_dim(self) -> int:
        return self._lm.hidden_dim * len(self._layers)

    def hidden(self, embeddings: Tensor, visible: None, positions: Tensor, layers: None = None) -> Tensor:
        output = self._reader.read(embeddings, positions, output_hidden_states=True)
        # The last of them has the norm behind it already.
        states = [
            output.last_hidden_state if n == self._lm.depth else self._norm(output.hidden_states[n])
            for n in self._layers
        ]
        return torch.cat(states, dim=-1)


class BothWays(CausalEncoder):
    """Pools by the mean and by the last token, behind one another."""

    @property
    def dim(self) -> int:
        return 2 * super().dim

    def _pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        found = []
        for pooling in ("mean", "last"):
            self._config = self._config.model_copy(update={"pooling": pooling})
            found.append(super()._pool(states, lengths))
        return torch.cat(found, dim=-1)


def of_language_model(
    lm: TransformersLM, texts: Sequence[str | None], layers: Sequence[int], prompt: str
) -> dict[str, Tensor]:
    """Vectors by name, such as `layer 20 mean`."""

    def parts(vectors: Tensor) -> dict[str, Tensor]:
        pieces = vectors.reshape(len(vectors), 2, len(layers), lm.hidden_dim)
        return {
            f"layer {layer} {pooling}": pieces[:, way, n].contiguous()
            for way, pooling in enumerate(("mean", "last"))
            for n, layer in enumerate(layers)
        }

    every = BothWays(SeveralLayers(lm, layers), CausalConfig(prompt=prompt))
    few = [text for text in texts if text][:8]
    for name, found in parts(every.vectors(few)[0]).items():
        _, layer, pooling = name.split()
        config = CausalConfig.model_validate({"prompt": prompt, "layer": int(layer), "pooling": pooling})
        wanted, _ = CausalEncoder(lm, config).vectors(few)
        off = float((found - wanted).norm() / wanted.norm())
        if off > 1e-3:
            raise SystemExit(f"{name} from one pass is off by {off:.1g} of what the encoder gives by itself.")
    return parts(every.vectors(texts)[0])


def encode(arguments: argparse.Namespace) -> None:
    """Compute vectors and keep them with what they cost."""
    titles = InteractionDataset.load(arguments.data).catalogue.titles
    if arguments.llm:
        lm = load_language_model(arguments.llm, "cpu")
        started = time.process_time()
        found = of_language_model(lm, titles, arguments.layers or [lm.depth], arguments.prompt)
        about = {
            "model": arguments.llm,
            "prompt": arguments.prompt,
            "precision": str(lm.embed(torch.tensor([0])).dtype),
        }
    else:
        encoder = load_encoder(EncoderConfig(name=arguments.encoder, tune="frozen"))
        started = time.process_time()
        found = {"sentence": TextBank(encoder, titles).all_vectors()}
        about = {"model": arguments.encoder, "precision": "torch.float32"}
    seconds = time.process_time() - started
    count = sum(title is not None for title in titles)
    about |= {"texts": count, "cpu_seconds": seconds, "seconds_a_million": seconds / count * 1e6}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    name = arguments.name or str(about["model"])
    write_tensors(arguments.folder / f"{name}.safetensors", {key.replace(" ", "-"): v for key, v in found.items()})
    write_json(arguments.folder / f"{name}.json", measured_by("item_encoders") | about)
    Console().print(f"{count:,} texts, {seconds:.0f} CPU seconds, {seconds / count * 1000:.1f} ms each")


# The text tower of docs/results.md, for a few epochs: one network for all encoders, so that they are what differs.
TOWER = {
    "model": {
        "dim": 128, "max_history": 50, "heads": 2, "blocks": 2, "dropout": 0.3, "items": "texts",
        "objective": {"loss": "softmax", "similarity": "cosine", "temperature": 0.07},
    },
    "windows": "all",
    "validation_users": 5000,
    "validation_negatives": "all",
    "training": {"learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 256, "epochs": 4},
}  # fmt: skip

WAYS = ("raw", "centred", "whitened")


def changed(vectors: Tensor, way: str, kept: int | None) -> Tensor:
    """Vectors as they come, with the catalogue's mean taken out, or whitened; of length 1, absent ones 0."""
    present = vectors.abs().sum(dim=1) > 0
    if way == "whitened":
        vectors = Whitening.fit(vectors, present, kept).of(vectors, present)
    elif way == "centred":
        vectors = (vectors - vectors[present].mean(dim=0)) * present[:, None]
    return F.normalize(vectors, dim=1)


def stored(folder: Path) -> dict[str, tuple[Tensor, Mapping[str, Any]]]:
    """All vectors of a folder by name, with what they cost."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        about = read_json(path.with_suffix(".json"))
        found |= {f"{path.stem} {key}": (vectors, about) for key, vectors in read_tensors(path).items()}
    return found


def neighbours(arguments: argparse.Namespace) -> None:
    """The whole catalogue ranked by cosine to the last item alone."""
    split = leave_one_out(InteractionDataset.load(arguments.data))
    sample = ValidationSample(split, 5000, None, 1, 0)
    last = torch.from_numpy(sample.batch.histories[:, -1].astype(np.int64))
    for name, (vectors, about) in stored(arguments.folder).items():
        for way in WAYS:
            unit = changed(vectors.float(), way, arguments.whiten)
            kept = {"dimensions": arguments.whiten or vectors.shape[1]} if way == "whitened" else {}
            keep("neighbours", about, {"vectors": name, "as": way, **kept, **sample.figures(unit[last], unit)})


def tower(arguments: argparse.Namespace) -> None:
    """A text tower over one kind of vectors."""
    vectors, about = stored(arguments.folder)[arguments.vectors]
    split = leave_one_out(InteractionDataset.load(arguments.data))
    # The tower whitens by itself, to as many dimensions as come.
    texts = vectors.float() if arguments.whiten is None else changed(vectors.float(), "whitened", arguments.whiten)
    started = time.process_time()
    _, log = pretrain(split, PretrainConfig.model_validate(TOWER), arguments.seed, device="cpu", texts=texts)
    kept = {"dimensions": arguments.whiten or vectors.shape[1]}
    figures = {
        "validation": [round(record["validation/ndcg@10"], 6) for record in log.records],
        "ndcg@10": log.best_value,
        "training_cpu_seconds": time.process_time() - started,
    }
    keep("towers", about, {"vectors": arguments.vectors, "as": "whitened", **kept, "seed": arguments.seed, **figures})


def keep(part: str, about: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Put a row in the table, in the place of an earlier one of the same settings, and print it."""
    named = ("vectors", "as", "dimensions", "seed")
    table = read_table(TARGET)
    others = [old for old in table.get(part, []) if any(old.get(name) != row.get(name) for name in named)]
    encoders = table.get("encoders", {}) | {str(row["vectors"]).rsplit(" ", 1)[0]: dict(about)}
    row_of, versions = _measured(table, row)
    write_result(TARGET, table | {"versions": versions, "encoders": encoders, part: [*others, row_of]})
    Console(width=140).print(dict(row))


def _measured(table: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A row with where and when it was measured, and the table's list of versions, in which the row has the number of its own."""
    about = measured_by("item_encoders")
    known = list(table.get("versions", []))
    if about["versions"] not in known:
        known.append(about["versions"])
    return {**row, **about, "versions": known.index(about["versions"])}, known


def cost(arguments: argparse.Namespace) -> None:
    """What texts drawn from the catalogue cost where one layer is read and those above it are not run."""
    titles = [title for title in InteractionDataset.load(arguments.data).catalogue.titles if title]
    chosen = numpy_generator(0, "item encoders").permutation(len(titles))[: arguments.texts]
    lm = load_language_model(arguments.llm, "cpu")
    (layer,) = arguments.layers
    encoder = CausalEncoder(lm, CausalConfig(layer=layer, prompt=arguments.prompt))
    encoder.vectors(titles[:8])
    started = time.process_time()
    encoder.vectors([titles[number] for number in chosen])
    seconds = time.process_time() - started
    row = {
        "vectors": f"{arguments.llm} layer-{layer}", "prompt": arguments.prompt, "texts": len(chosen),
        "cpu_seconds": seconds, "seconds_a_million": seconds / len(chosen) * 1e6,
    }  # fmt: skip
    table = read_table(TARGET)
    others = [old for old in table.get("costs", []) if any(old[name] != row[name] for name in ("vectors", "prompt"))]
    row_of, versions = _measured(table, row)
    write_result(TARGET, table | {"versions": versions, "costs": [*others, row_of]})
    Console(width=140).print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encode", "cost", "neighbours", "tower"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--llm")
    parser.add_argument("--layers", type=int, nargs="+")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--texts", type=int, default=1500, help="for cost: how many")
    parser.add_argument("--name", help="of the file of vectors; none: the model's")
    parser.add_argument("--vectors", help="for tower: file and kind of the vectors, as neighbours prints them")
    parser.add_argument("--whiten", type=int, help="dimensions that are kept; none: all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    {"encode": encode, "cost": cost, "neighbours": neighbours, "tower": tower}[arguments.what](arguments)


if __name__ == "__main__":
    main()
