"""The real program: quiet but for what it has to say, and Ctrl-C that can be taken back by the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from allmrec.core.artifacts import read_json

pty = pytest.importorskip("pty", reason="a terminal is needed to see the bar move")

PROGRAM = [sys.executable, "-c", "from allmrec.cli import main; main()"]


def interrupted(command: list[str], sign: bytes) -> tuple[int, str]:
    """Start a program on a terminal, press Ctrl-C when `sign` is seen, and return status and what was shown."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 120
    while sign not in shown:
        assert process.poll() is None, shown.decode()
        assert time.monotonic() < deadline, shown.decode()
        shown += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # Linux says so when the other side has hung up
    os.close(terminal)
    return process.wait(), shown.decode()


def test_ctrl_c_says_what_to_type_next_and_the_same_command_goes_on(
    workplace: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    arguments = ["train", str(workplace / "data"), "-o", str(run), "--recipe", str(tiny_world.recipe)]
    # 600 steps, a second or two.
    arguments += ["--set", "pretrain.training.epochs=300", "--set", "pretrain.training.validate_every=100"]
    status, shown = interrupted([*PROGRAM, *arguments], b" best ")
    assert status == 130
    assert "Traceback" not in shown
    (line,) = [line for line in shown.splitlines() if "Stopped." in line]
    assert f"to go on: allmrec train {workplace / 'data'} -o '{run}' --recipe " in line
    (state,) = (run / ".resume").iterdir()
    assert state.name.startswith("pretrain-")

    again = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert again.returncode == 0
    # No loader's bar, no library's warning, nothing that is not ours.
    assert again.stderr == ""
    assert [line.split(":")[0] for line in again.stdout.splitlines()] == [
        "pretrain", "reference", "align", "tune", "Next",
    ]  # fmt: skip
    log = read_json(run / "pretrain" / "log.json")
    assert [record["step"] for record in log["records"]] == [100, 200, 300, 400, 500, 600]
    assert list((run / ".resume").iterdir()) == []
