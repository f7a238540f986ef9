from __future__ import annotations

import subprocess
import sys

import pytest

from allmrec.core.log import logger, shown_on_stderr


def test_nothing_is_shown_until_a_program_sets_up_logging() -> None:
    code = "from allmrec.core.log import logger; logger.info('one'); logger.warning('two')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")


def test_the_command_line_shows_records_and_leaves_the_logger_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = (logger.level, list(logger.handlers))
    with shown_on_stderr():
        logger.info("half way")
    logger.info("behind")
    assert capfd.readouterr() == ("", "half way\n")
    assert (logger.level, list(logger.handlers)) == before
