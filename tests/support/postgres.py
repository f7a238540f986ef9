"""A PostgreSQL server of a test's own, from the system's package."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

__all__ = ["Postgres"]


class Postgres:
    """It runs when it is made; where PostgreSQL is not installed the test is skipped.

    Args:
        address: that it listens at; everybody who reaches it may do everything.
        inside: command that a program is put behind to run elsewhere, e.g. in a network namespace.

    Attributes:
        programs: folder of its programs, `psql` among them.
        folder: of its data and its log.
        url: of its database.
    """

    def __init__(self, address: str = "127.0.0.1", inside: Sequence[str] = ()) -> None:
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        # Not in pytest's folder, which is shut for other users, and shut again by every pytest that starts beside this one.
        self.folder = Path(tempfile.mkdtemp(prefix="allmrec-postgresql-"))
        self.folder.chmod(0o711)
        self.programs, self._data, self._address = programs, self.folder / "pg", address
        self._before = list(inside)
        # It refuses to run as root.
        if os.geteuid() == 0:
            name = next(n for n in ("postgres", "nobody") if _exists(n))
            self._before += ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
            self._data.mkdir()
            shutil.chown(self._data, name)
        self.port = free_port()
        self._call("initdb", "-D", self._data, "-U", "allmrec", "--auth=trust", "-E", "UTF8", "--locale=C")
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        self.start()
        self.url = f"postgresql://allmrec@{address}:{self.port}/postgres"

    def start(self) -> None:
        """Start it again."""
        options = f"-p {self.port} -c listen_addresses={self._address} -c unix_socket_directories="
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "-o", options, "start")

    def stop(self) -> None:
        """End it at once, as a crash does."""
        self._call("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def freeze(self) -> None:
        """Let it take connections and say nothing, as a machine does that hangs."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(server)], check=False, capture_output=True, text=True).stdout
        for process in (server, *map(int, children.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def remove(self) -> None:
        """End it, and remove its data."""
        self.stop()
        shutil.rmtree(self.folder)

    def _call(self, program: str, *options: Any) -> None:
        command = [*self._before, str(self.programs / program), *map(str, options)]
        # A file and no pipe: the server that pg_ctl leaves behind would hold a pipe open.
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
            log.seek(0)
            said = log.read().decode()
        assert done.returncode == 0, said


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs, where they are installed."""
    for place in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (place / "initdb").is_file():
            return place
    found = shutil.which("initdb")
    return None if found is None else Path(found).parent


def _exists(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False
