"""Large files read by several processes: the same rows, report and errors as one gives."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from allmrec.core.errors import DataError
from allmrec.data.files import Problems, Role, workers
from allmrec.data.files.json_lines import read_json_lines
from allmrec.data.files.literal_lines import read_literal_lines
from allmrec.data.files.workers import results, workers_for

WANTED: dict[str, Role] = {"i": "id", "n": "number", "t": "text"}
ODD = (
    "",
    "{",
    "[1]",
    '{"i": [1]}',
    '{"n": "x"}',
    '{"t": "\\ud83d"}',
    '{"i": 1.5}',
    '{"i": 7}',
    '{"n": -0}',
    '{"new": 1}',
)
READERS = {"JSON": read_json_lines, "literals": read_literal_lines}


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes read any file."""
    monkeypatch.setattr(workers, "_LARGE", 0)
    monkeypatch.setattr(workers, "_LARGE_PACKED", 0)
    monkeypatch.setattr("loky.cpu_count", lambda: 2)


def write(path: Path, odd: int, packed: bool) -> Path:
    """Many records with some unusual lines among them."""
    records = [json.dumps({"i": f"é{k % 7}", "n": k, "t": "x" * (k % 40)}, ensure_ascii=False) for k in range(400)]
    for place, line in enumerate(ODD * odd):
        records.insert(13 * place % len(records), line)
    data = "\n".join(records).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return path


def found(form: str, path: Path, problems: Problems) -> Any:
    """Everything that a reader says of a file."""
    try:
        rows = READERS[form](path, WANTED, problems)
    except DataError as error:
        return str(error), dict(problems.skipped)
    columns = {name: (str(column.type), column.to_pylist()) for name, column in rows.columns.items()}
    return columns, rows.names, rows.n_rows, list(rows.lines() or ()), rows.example, dict(problems.skipped)


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(("odd", "packed"), [(0, False), (1, False), (4, True)])
@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_processes_read_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, odd: int, packed: bool, on_error: Any
) -> None:
    path = write(tmp_path / "r.json.gz", odd, packed)
    monkeypatch.setattr("allmrec.data.files.lines.line_blocks.__defaults__", (512, None))
    monkeypatch.setattr("allmrec.data.files.lines.spans.__defaults__", (512,))
    assert workers_for(path) == 1
    alone = found(form, path, Problems(on_error))
    monkeypatch.setattr("allmrec.data.files.records.workers_for", lambda _: 2)
    assert found(form, path, Problems(on_error)) == alone
    assert isinstance(alone[0], str) == (on_error == "fail" and odd > 0)


def test_small_files_need_no_processes(tmp_path: Path, several: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r.json", 0, packed=False)
    assert workers_for(path) == 2
    monkeypatch.setattr(workers, "_LARGE", path.stat().st_size + 1)
    assert workers_for(path) == 1
    assert workers_for(tmp_path / "missing") == 1


HALVES = {number: number / 2 for number in range(0, 1000, 2)}.__getitem__


@pytest.mark.parametrize("processes", [1, 2])
def test_what_fails_comes_behind_what_stands_before_it(processes: int) -> None:
    def items() -> Iterator[int]:
        yield from (0, 2, 4)
        raise DataError("damaged")

    seen: list[float] = []
    with pytest.raises(DataError, match="damaged"):
        seen.extend(results(HALVES, items(), processes, Path("r.json")))
    assert seen == [0.0, 1.0, 2.0]
    with pytest.raises(KeyError, match="3"):
        list(results(HALVES, iter([2, 3, 4]), processes, Path("r.json")))


def test_a_process_that_is_killed_is_named() -> None:
    with pytest.raises(DataError, match=r"r\.json: a process that read it was ended from outside.*free some"):
        list(results(signal.raise_signal, iter([signal.SIGKILL]), 2, Path("r.json")))


def test_a_program_without_a_guard_may_read(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", 1, packed=False)
    script = tmp_path / "script.py"
    script.write_text(
        "from allmrec.data.files import Problems, workers\n"
        "from allmrec.data.files.json_lines import read_json_lines\n"
        "from pathlib import Path\n"
        "workers._LARGE = 0\n"
        f"rows = read_json_lines(Path({str(path)!r}), {{'i': 'id'}}, Problems('skip'))\n"
        "print('rows', rows.n_rows)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["rows", "405"]
    assert done.stderr == ""


def test_a_reader_that_gives_up_ends_its_processes() -> None:
    going = results(HALVES, iter(range(0, 1000, 2)), 2, Path("r.json"))
    assert next(going) == 0.0
    started = {child.pid for child in psutil.Process().children(recursive=True)}
    assert len(started) >= 2
    going.close()
    left = {
        child.pid for child in psutil.Process().children() if child.pid in started and "loky" in str(child.cmdline())
    }
    assert not [pid for pid in left if "resource_tracker" not in str(psutil.Process(pid).cmdline())]


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = (
        "from allmrec.data.files.workers import results\n"
        "from pathlib import Path\n"
        "import time\n"
        "going = results(abs, iter(range(100)), 2, Path('r.json'))\n"
        "print(next(going), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 2
        process.kill()
    assert psutil.wait_procs(started, timeout=30)[1] == []
