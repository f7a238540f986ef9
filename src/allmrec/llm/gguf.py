"""Language models that come as GGUF files, converted once to what transformers loads fast.

Loading a GGUF takes 20 to 30 seconds each time and loses some tokenizers' rules; the converted folder takes three.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

from allmrec.core.errors import ConfigError, MissingExtraError, ModelNotFoundError
from allmrec.core.hashing import file_hash
from allmrec.core.log import logger
from allmrec.core.packaged import PACKAGED, cached_folder, find_packaged, packaged_path
from allmrec.core.pretrained import read_model, read_tokenizer, readable, refuse_adapter
from allmrec.core.progress import loading_bars

__all__ = ["convert_gguf", "resolve_language_model"]

# Part of the cache's key: raise it whenever the converted folder would come out differently.
_CONVERSION = 1


def resolve_language_model(name: str | Path) -> str | Path:
    """Turn what a user names into what `from_pretrained` takes.

    Args:
        name: a packaged model's name or alias, a GGUF file, a folder with one GGUF file, a folder that transformers can
            load already, or a hub name. The last two are handed back as they are.

    Raises:
        ModelNotFoundError: a folder without a model or with an adapter alone, a damaged GGUF file, or a model that is known to come in a package not installed here.
        ConfigError: a folder with several GGUF files and nothing to say which.
        MissingExtraError: a GGUF file, but the gguf package is not installed.
        ArtifactError: the package's file is damaged.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".gguf":
        return convert_gguf(path)
    if path.is_dir():
        return _resolve_folder(path)
    # An alias is a hub name too: without the package the hub is asked. A key of PACKAGED is a name of our own.
    if find_packaged(str(name)) is not None or name in PACKAGED:
        return convert_gguf(packaged_path(str(name)))
    return name


def convert_gguf(file: Path) -> Path:
    """Convert a GGUF file to safetensors with its tokenizer, in float32, into the cache, unless it is there already.

    Args:
        file: the GGUF file; its hash is the cache's key, so the same file elsewhere is not converted again.

    Returns:
        The folder to load from.

    Raises:
        MissingExtraError: the gguf package is not installed.
        ModelNotFoundError: the file cannot be read, or transformers does not know its architecture.
    """
    return cached_folder(f"gguf-{file_hash(file)[:24]}-{_CONVERSION}", partial(_convert, file))


def _resolve_folder(folder: Path) -> Path:
    """The folder itself, or what its only GGUF file converts to."""
    refuse_adapter(folder, "The language model")
    if (folder / "config.json").is_file():
        return folder
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise ModelNotFoundError(
            f"{folder} holds neither a config.json nor a .gguf file; expected a folder written by save_pretrained."
        )
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ConfigError(f"{folder} holds several GGUF files ({names}); give the path of the one to use.")
    return convert_gguf(files[0])


def _convert(file: Path, folder: Path) -> None:
    """Write the model and its tokenizer into an empty folder."""
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf", f"Reading {file.name}")
    import torch  # these are slow to import and wanted once in a machine's life
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, GgufConfig

    what = f"The GGUF file {file.name}"
    with readable(file, what):
        GGUFReader(file)  # transformers would name a cut file's folder and not the file
    logger.info(f"Converting {file.name}; this happens once and takes about half a minute per 100 MB.")
    with loading_bars():
        tokenizer = read_tokenizer(file.parent, what, gguf_file=file.name)
        # Left in its blocks the model could be run but not saved.
        model = read_model(
            AutoModelForCausalLM, file.parent, what, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )  # fmt: skip
        _restore_splitting(tokenizer, file)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)


def _restore_splitting(tokenizer: Any, file: Path) -> None:
    """Give the tokenizer back the rule by which it splits text first.

    A GGUF names that rule (`tokenizer.ggml.pre`) instead of spelling it out, and transformers goes by the architecture
    alone. The family "smollm" splits numbers into single digits; without it "1995" becomes tokens that the model has
    hardly seen, and film titles are full of years.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)]
        )
