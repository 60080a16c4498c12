import io
import sys

import pytest

from keras_proseg.progress import counting_bar, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def as_terminal(monkeypatch):
    # Not a fixture: pytest puts its own standard error back between set-up and call.
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_a_terminal_sees_the_bars_and_their_counts(monkeypatch):
    terminal = as_terminal(monkeypatch)
    assert list(progress_bar([1, 2, 3], "Scoring")) == [1, 2, 3]
    assert "Scoring" in terminal.getvalue()
    assert list(progress_bar(iter([1, 2]), "Preparing", total=2)) == [1, 2]
    assert "Preparing" in terminal.getvalue()
    with counting_bar(8, 5, "Training") as advance:
        advance()
    assert "Training" in terminal.getvalue()
    assert "6/8" in terminal.getvalue()


@pytest.mark.parametrize("shown", [True, False])
def test_a_log_file_sees_nothing(monkeypatch, shown):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(progress_bar([1, 2], "Scoring", shown)) == [1, 2]
    with counting_bar(8, 0, "Training") as advance:
        advance()
    assert sys.stderr.getvalue() == ""


def test_a_bar_that_is_not_wanted_is_not_shown(monkeypatch):
    terminal = as_terminal(monkeypatch)
    assert list(progress_bar([1, 2], "Scoring", shown=False)) == [1, 2]
    assert terminal.getvalue() == ""
