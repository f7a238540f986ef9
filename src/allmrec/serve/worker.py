"""One of several server processes; `allmrec serve --workers` starts it."""

from __future__ import annotations

import os
import socket
import sys

from allmrec.core.errors import AllmrecError
from allmrec.serve.config import ServeConfig
from allmrec.serve.logs import logging_as_json
from allmrec.serve.runner import serve_here

__all__: list[str] = []


def _main() -> None:
    config = ServeConfig.model_validate_json(os.environ["ALLMREC_SERVE_CONFIG"])
    listening = socket.socket(fileno=int(os.environ["ALLMREC_SERVE_SOCKET"]))
    try:
        with logging_as_json():
            serve_here(config, listening, "ALLMREC_SERVE_WAITS" in os.environ)
    except AllmrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _main()
