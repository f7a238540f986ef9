"""Reads what transformers' `save_pretrained` wrote, and refuses what is not whole; it does not know what a model is for.

transformers draws weights at random that a folder lacks, asks on the terminal whether a stranger's code may run, and
raises whatever its parts raise. Here all of that is an error that names the file and what to do.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allmrec.core.errors import AllmrecError, ModelNotFoundError
from allmrec.core.progress import loading_bars

__all__ = ["check_whole", "leave_out", "read_json_file", "read_model", "read_tokenizer", "readable", "refuse_adapter"]

_POINTER = b"version https://git-lfs.github.com/spec/"
_SHOWN = 3


def read_tokenizer(source: str | Path, what: str, *, trust_remote_code: bool = False, **arguments: Any) -> Any:
    """A model's tokenizer.

    Args:
        source: a folder or a hub name.
        what: whose tokenizer it is, in words, for messages: "The language model 'x'".
        trust_remote_code: whether Python files that come with it may run.
        arguments: more of `AutoTokenizer.from_pretrained`.

    Raises:
        ModelNotFoundError: it cannot be read; says which file is at fault and what to do.
    """
    from transformers import AutoTokenizer  # slow to import

    with readable(source, what):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **arguments)


def read_model(
    kind: Any,
    source: str | Path,
    what: str,
    *,
    trust_remote_code: bool = False,
    unread: Iterable[str] = (),
    **arguments: Any,
) -> Any:
    """A model all of whose weights come from its files.

    Args:
        kind: a class of transformers with `from_pretrained`.
        source, what, trust_remote_code: as of `read_tokenizer`.
        unread: names of parts at the model's top that nobody will ask anything; they are taken out.
        arguments: more of `from_pretrained`.

    Raises:
        ModelNotFoundError: it cannot be read, or weights are missing, of another shape, or have no place in it.
    """
    with readable(source, what), loading_bars():
        model, about = kind.from_pretrained(
            source,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            # Those of another shape are named below; transformers' own error names none.
            ignore_mismatched_sizes=True,
            **arguments,
        )
    leave_out(model, unread)
    check_whole(model, about, source, what)
    return model


def leave_out(model: Any, parts: Iterable[str]) -> None:
    """Put something without weights in the place of parts that nobody asks anything; some families call them always."""
    for part in parts:
        if getattr(model, part, None) is not None:
            setattr(model, part, _unread())


def check_whole(model: Any, about: Mapping[str, Any], source: str | Path, what: str) -> None:
    """Make sure that every weight of a model came from its files, and that every weight in them that it needs is used.

    Args:
        model: as it was read.
        about: transformers' loading info.
        source, what: as of `read_tokenizer`.

    Raises:
        ModelNotFoundError: the message names the weights.
    """
    own = set(model.state_dict(keep_vars=True))
    missing = sorted(set(about["missing_keys"]) & own)
    head = _head(model)
    if missing and head and all(name.startswith(head) for name in missing):
        raise ModelNotFoundError(
            f"{what} ({source}) is a body without a head: it lacks {_some(missing)}. Give the folder of the whole model, as "
            f"{type(model).__name__}.save_pretrained writes it."
        )
    if missing:
        raise ModelNotFoundError(
            f"{what} ({source}) lacks {len(missing)} of the {len(own)} weights of a {type(model).__name__}: "
            f"{_some(missing)}. They would be drawn at random. Get the whole model again, or name one of this kind."
        )
    mismatched = sorted(str(name) for name, *_ in about["mismatched_keys"])
    if mismatched:
        name, found, wanted = min(about["mismatched_keys"])
        raise ModelNotFoundError(
            f"{what} ({source}): {_some(mismatched)} do not fit its config.json: {name} has the shape {tuple(found)}, and "
            f"{tuple(wanted)} is expected. Weights and config.json are of different models; get both again."
        )
    surplus = sorted(name for name in about["unexpected_keys"] if _belongs(name, model, own))
    if surplus:
        raise ModelNotFoundError(
            f"{what} ({source}) has weights that its config.json leaves no place for: {_some(surplus)}. Without them it "
            "would be another model. Get config.json and weights of one version."
        )
    if about["error_msgs"]:
        raise ModelNotFoundError(f"{what} ({source}) cannot be read: {about['error_msgs'][0]}. Get it again.")


@contextmanager
def readable(source: str | Path, what: str) -> Iterator[None]:
    """Within it whatever goes wrong while a model's files are read becomes an error that says which of them, and what to do.

    Args:
        source: the folder, a GGUF file, or a hub name.
        what: as of `read_tokenizer`.
    """
    try:
        yield
    except (AllmrecError, MemoryError):
        raise
    # What transformers raises on a bad folder is no list: its parts raise what they like.
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise ModelNotFoundError(f"{what} could not be loaded: {_reason(source, error)}") from error


def refuse_adapter(source: str | Path, what: str) -> None:
    """Make sure that a folder or hub name is a model and no PEFT adapter, which transformers would put on silently.

    Raises:
        ModelNotFoundError: it is an adapter; says how to merge it.
    """
    about = read_json_file(source, "adapter_config.json", what)
    if about is None:
        return
    base = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    merged = f"{Path(str(source)).name}-merged"
    raise ModelNotFoundError(
        f"{what} ({source}) is a PEFT adapter of {base or 'another model'} (adapter_config.json) and no model. Merge it into "
        'its base first: python -c "from peft import AutoPeftModelForCausalLM as M; from transformers import AutoTokenizer '
        f"as T; M.from_pretrained('{source}').merge_and_unload().save_pretrained('{merged}'); "
        f"T.from_pretrained('{base or source}').save_pretrained('{merged}')\" and give {merged}."
    )


def read_json_file(source: str | Path, file: str, what: str) -> Any:
    """A JSON file of a model, from its folder or the hub's cache; None if it has none.

    Raises:
        ModelNotFoundError: it is no JSON.
    """
    path = Path(source) / file
    if not Path(source).is_dir():
        from transformers.utils.hub import cached_file  # slow to import

        with readable(source, what):
            found = cached_file(
                str(source),
                file,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                _raise_exceptions_for_gated_repo=False,
            )
        if found is None:
            return None
        path = Path(found)
    if not path.is_file():
        return None
    with readable(source, what):
        return json.loads(path.read_text(encoding="utf-8"))


def _reason(source: str | Path, error: Exception) -> str:
    """What is wrong and what to do, as exactly as the files tell."""
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            f"{source} needs Python code that comes with it, and allmrec runs no code of a model's folder unless you allow it. "
            "Read that code; if you trust it, set trust_remote_code=true beside the model's name, and for a run that is there "
            "already ALLMREC_TRUST_REMOTE_CODE=1 in the environment. Else take a model that transformers knows."
        )
    damage = next(_damage(Path(source)), None)
    if damage is not None:
        return damage
    first = text.split("\n", 1)[0] or "no reason was given"
    if Path(source).is_file():
        return (
            f"{source} could not be read ({type(error).__name__}: {first}): it is damaged, cut short, or of a kind that is not "
            "known. Get the file again."
        )
    if isinstance(error, ImportError):
        return f"reading it needs a package that is not installed ({first})."
    if not Path(source).exists():
        return (
            f"there is no such folder, no installed package has it, and the hub did not give it ({first}). Give a folder that "
            "transformers can load, a packaged model (`allmrec doctor` lists them), or a hub name where the hub is reached."
        )
    return (
        f"transformers cannot read {source} ({type(error).__name__}: {first}). Give a folder as `save_pretrained` writes it; "
        "if it was one, get its files again."
    )


def _damage(source: Path) -> Iterator[str]:
    """What is wrong with the files themselves, each in a sentence with its remedy."""
    files = [source] if source.is_file() else sorted(source.iterdir()) if source.is_dir() else []
    for file in (file for file in files if file.is_file()):
        with open(file, "rb") as opened:
            start = opened.read(len(_POINTER))
        if start == _POINTER:
            yield (
                f"{file} is a git-lfs pointer and not the file itself. Fetch it: git lfs install && git -C {file.parent} lfs pull"
            )
        elif file.suffix == ".safetensors":
            yield from _broken_tensors(file)
        elif file.name.endswith(".index.json"):
            yield from _missing_shards(file)
        elif file.suffix == ".json":
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                yield f"{file} is no JSON ({error}). Get the file again."
        elif file.suffix == ".bin" and file.name.startswith("pytorch_model") and not zipfile.is_zipfile(file):
            yield f"{file} is damaged or cut short: it is no archive of torch. Get the file again."
        elif file.stat().st_size == 0 and file.suffix in (".model", ".txt", ".gguf"):
            yield f"{file} is empty. Get the file again."


def _broken_tensors(file: Path) -> Iterator[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        yield f"{file} is damaged or cut short, {file.stat().st_size:,} bytes ({error}). Get the file again."


def _missing_shards(file: Path) -> Iterator[str]:
    try:
        shards = json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield f"{file} is no index of weights ({type(error).__name__}: {error}). Get the file again."
        return
    missing = sorted({str(shard) for shard in shards if not (file.parent / str(shard)).is_file()})
    if missing:
        yield f"{file} names {_some(missing)}, which {file.parent} does not have. Get the missing files."


def _unread() -> Any:
    from torch import nn  # slow to import

    return nn.Identity()


def _head(model: Any) -> str:
    """The name under which a model with a head keeps it, or nothing."""
    if getattr(model, "base_model", model) is model:
        return ""
    head = model.get_output_embeddings()
    return next((f"{name}." for name, module in model.named_modules() if head is not None and module is head), "")


def _belongs(name: str, model: Any, own: set[str]) -> bool:
    """Whether a weight that found no place is one that the model would compute with.

    That is: of a further layer like those that there are, or of a matrix or norm that there is. Heads for other tasks and
    buffers of older versions are neither.
    """
    if _numberless(name) in {_numberless(one) for one in own}:
        return True
    parent = name.rpartition(".")[0]
    return f"{parent}.weight" in own and name.rpartition(".")[2] in ("weight", "bias")


def _numberless(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
