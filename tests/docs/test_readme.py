"""What the documents tell a reader to type exists: verbs, options, imports, names, arguments, links."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import allmrec
from allmrec.cli.main import app
from tests.docs.conftest import PAGES, ROOT, blocks, program, without_blocks

_MENTION = re.compile(r"`allmrec ([a-z-]+)")
_LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def check_command(line: str) -> None:
    """Follow one line of a shell to its verb, and look every option up there."""
    command, words = get_command(app), shlex.split(line, comments=True)[1:]
    path, loaded = ["allmrec"], program(ROOT / "docs" / "generate_cli.py").loaded
    while words and words[0] in getattr(command, "commands", {}):
        path.append(words.pop(0))
        command = loaded(command, path[-1])
    assert not getattr(command, "commands", {}), f"{line}: {' '.join(path)} has no verb {words[:1]}"
    known = {"-h", "--help"} | {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{line}: {' '.join(path)} has no option {word}"


@every_page
def test_commands_in_code_blocks_exist(page: Path) -> None:
    for text in blocks(page, "sh"):
        for line in text.splitlines():
            if line.startswith("allmrec "):
                check_command(line)
            elif line.startswith("make "):
                targets = _TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
                assert set(shlex.split(line, comments=True)[1:]) <= set(targets), line


@every_page
def test_verbs_in_prose_exist(page: Path) -> None:
    verbs = getattr(get_command(app), "commands", {})
    for verb in _MENTION.findall(without_blocks(page)):
        assert verb in verbs, f"{page.name} mentions allmrec {verb}"


def test_a_wrong_command_would_be_noticed() -> None:
    check_command("allmrec recommend runs/shop --k 3")
    with pytest.raises(AssertionError, match="no option"):
        check_command("allmrec recommend runs/shop --explane")
    with pytest.raises(AssertionError, match="no verb"):
        check_command("allmrec prepare netflix")


def resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """What a dotted name stands for, or None where it is a value of the snippet's own."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolve(node.value, names)
        return None if owner is None else getattr(owner, node.attr)
    return None


def signature(called: Any) -> inspect.Signature:
    """What may be handed over; where C code does not say, anything."""
    try:
        return inspect.signature(called)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def check_python(text: str) -> None:
    """Imports, names behind imported names, and keyword arguments of what is called."""
    tree, names = ast.parse(text), dict[str, Any]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                if alias.asname or "." not in alias.name:
                    names[alias.asname or alias.name] = module
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolve(node, names)
        if isinstance(node, ast.Call) and (called := resolve(node.func, names)) is not None:
            given = {word.arg: None for word in node.keywords if word.arg is not None}
            signature(called).bind_partial(*node.args, **given)


@every_page
def test_python_in_code_blocks_resolves(page: Path) -> None:
    for text in blocks(page, "python"):
        check_python(text)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_python_in_examples_resolves(example: Path) -> None:
    check_python(example.read_text(encoding="utf-8"))


def test_wrong_python_would_be_noticed() -> None:
    check_python("import allmrec\nallmrec.train(data, 'runs/x', recipe='cpu')")
    with pytest.raises(AttributeError):
        check_python("import allmrec\nallmrec.fit(data)")
    with pytest.raises(TypeError):
        check_python("import allmrec\nallmrec.train(data, 'runs/x', model='opt')")
    with pytest.raises(ImportError):
        check_python("import allmrec.serving")


def test_the_readme_shows_the_front_door() -> None:
    shown = " ".join(blocks(ROOT / "README.md", "python"))
    for name in ("read_table", "train", "open_run", "evaluate"):
        assert name in allmrec.__all__
        assert f"allmrec.{name}(" in shown


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(without_blocks(page)):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_table_is_what_the_demo_measured() -> None:
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    report = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text(encoding="utf-8"))["report"]
    for system in report["systems"]:
        first = system["metrics"]["Hit@1"]
        row = f"| {system['name']} | {system['n_users']} | {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}] |"
        assert row in written
