"""The command line: one file per verb, each a thin layer over the library."""

from allmrec.cli.main import main

__all__ = ["main"]
