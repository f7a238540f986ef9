"""Progress: a bar on a terminal, a line now and then elsewhere, the work the same."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from allmrec.core import progress
from allmrec.core.errors import ConfigError
from allmrec.core.progress import progress_bar, progress_shown, track


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal would take it."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=text, force_terminal=True, width=120))
    return text


def test_nothing_is_shown_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("work", 2) as bar:
        bar.advance()
        bar.advance(1, "loss 0.5")
    assert list(track([1, 2, 3], "items")) == [1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_a_log_shows_that_long_work_goes_on(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    with caplog.at_level("INFO", "allmrec"), progress_bar("pre-train", 10, done=4) as bar:
        bar.advance(2, "loss 0.125")
    assert caplog.record_tuples == [("allmrec", logging.INFO, "pre-train: 6/10 (0:00:00 left) loss 0.125")]


@pytest.mark.parametrize("by", ["argument", "environment", "process"])
def test_progress_can_be_turned_off(
    by: str, terminal: io.StringIO, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    if by == "environment":
        monkeypatch.setenv("ALLMREC_PROGRESS", "off")
    with (
        caplog.at_level("INFO", "allmrec"),
        progress_shown(False if by == "argument" else None),
        progress_bar("work", 2, silent=by == "process") as bar,
    ):
        bar.advance()
    assert (terminal.getvalue(), caplog.records) == ("", [])


def test_an_argument_outweighs_the_environment(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_PROGRESS", "0")
    with progress_shown(True):
        assert list(track("ab", "letters")) == ["a", "b"]
    assert "2/2" in terminal.getvalue()


def test_a_word_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_PROGRESS", "quiet")
    with (
        pytest.raises(ConfigError, match="ALLMREC_PROGRESS is 'quiet'; expected one of 1, true"),
        progress_bar("work", 1),
    ):
        pass


def test_a_terminal_shows_how_far_it_is_and_how_well_it_goes(terminal: io.StringIO) -> None:
    with progress_bar("pre-train", 10, done=4) as bar:
        bar.advance(2, "loss 0.125")
    shown = terminal.getvalue()
    assert "pre-train" in shown
    assert "6/10" in shown
    assert "loss 0.125" in shown


def test_tracking_counts_what_has_a_length_and_takes_what_has_none(terminal: io.StringIO) -> None:
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert "3/3" in terminal.getvalue()
    assert list(track(iter("abc"), "stream")) == ["a", "b", "c"]
    assert list(track(iter("ab"), "told", total=2)) == ["a", "b"]
    assert "2/2" in terminal.getvalue()
