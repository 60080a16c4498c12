"""What the door makes of errors, warnings and names that come from outside the library."""

import errno
import os
import re
import signal
import subprocess
import sys
import warnings
from unittest.mock import Mock

import click
import numpy as np
import pytest
import source_files as files
from keras_proseg_cli.door import MOST_FINDINGS, end_at_signals
from keras_proseg_cli.main import main
from keras_proseg_cli.start import silent_descriptor
from test_cli import run

from keras_proseg.data import sources

NO_TEXT = os.fsdecode(b"case\xff")  # a name that is no UTF-8


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "The data must fit in memory. Received: not enough memory"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.npz"),
            "Files must be readable and writable. Received: [Errno 13] Permission denied: 'a.npz'",
        ),
        (
            UnicodeEncodeError("utf-8", NO_TEXT, 4, 5, "surrogates not allowed"),
            r"Names must be whole UTF-8 to be stored. Received: 'case\udcff'",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, tmp_path, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr(sources, "read_dataset", refuse)
    done = run("data", "prepare", "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert done.output.splitlines() == [f"Error: {line}"]


@pytest.mark.parametrize("more", [0, 3])
def test_of_many_findings_the_first_are_named_and_the_others_counted(more, tmp_path):
    image, masks = files.cases(1)["case0"]
    files.write_nifti(tmp_path, {"good": (image, {"ann": masks["ann"]})})
    for case in range(MOST_FINDINGS + more):
        files.save_nifti(tmp_path / f"{case:02d}" / "image.nii", image)
        files.save_nifti(tmp_path / f"{case:02d}" / "mask-ann.nii", masks["ann"] * 3)
    done = run("data", "prepare", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    *named, last = done.output.splitlines()
    named += [] if more else [last]
    assert len(named) == MOST_FINDINGS
    assert all("values [0, 3] where 0/1 must be" in line for line in named)
    assert not more or last == "Error: 3 more; `keras-proseg data verify` names all."


@pytest.mark.filterwarnings("default")
def test_warnings_for_people_are_one_line_and_others_are_silent(tmp_path, arrays, monkeypatch):
    real = sources.read_dataset

    def read(*arguments):
        warnings.warn("told", stacklevel=1)
        warnings.warn("`shuffle=True` was passed", stacklevel=1)  # as Keras does, each time
        warnings.warn("for developers", RuntimeWarning, stacklevel=1)
        return real(*arguments)

    monkeypatch.setattr(sources, "read_dataset", read)
    np.savez(tmp_path / "a.npz", **arrays)
    done = run("data", "prepare", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == ["Warning: told"]
    assert (tmp_path / "out").is_file()


def test_names_that_are_no_text_are_printed_all_the_same(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays, patient_ids=np.arange(24).astype(str))
    done = run("data", "prepare", tmp_path / "a.npz", "--out", tmp_path / NO_TEXT)
    assert done.exit_code == 0, done.output
    assert "/case\\udcff  " in done.output
    assert (tmp_path / NO_TEXT).is_file()


def test_names_that_are_no_text_and_must_be_stored_are_refused(tmp_path):
    content = files.cases()
    content[NO_TEXT] = content.pop("case0")
    files.write_png(tmp_path / "in", content)
    done = run("train", "--data", tmp_path / "in", "--out", tmp_path / "out", "--steps", 1)
    assert done.exit_code == 1
    (error,) = done.output.splitlines()
    assert error.startswith("Error: ")
    assert "must be a name in UTF-8. Received: b'" in error
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_error(tiny_npz):
    command = [sys.executable, "-m", "keras_proseg_cli.main", "data", "verify", str(tiny_npz)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""


COLLECTING = """
import gc, os, signal
gc.callbacks.append(lambda phase, _: phase == "start" and os.kill(os.getpid(), signal.SIGNAL))
gc.collect()
print("went on", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_among_the_imports_ends_the_command(name, tmp_path):
    (tmp_path / "keras.py").write_text(COLLECTING.replace("SIGNAL", name))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "keras_proseg_cli.main", "evaluate", "lidc"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.Signals[name], "", "")


def test_ctrl_c_is_one_line_and_a_code_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "read_dataset", Mock(side_effect=KeyboardInterrupt))
    done = run("data", "prepare", "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert done.output.splitlines() == ["Error: Stopped by Ctrl-C"]


def test_signals_end_a_command_unless_they_are_ignored():
    """As a scheduler sends them, or a terminal that is closed; `nohup` has the latter ignored."""
    names = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in names]
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_at_signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        end_at_signals()
        for number in names:
            with pytest.raises(SystemExit) as ended:
                os.kill(os.getpid(), number)
                signal.sigtimedwait([], 1)
            assert ended.value.code == 128 + number
    finally:
        for number, handler in zip(names, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--learning-rate", "nan"], "`learning_rate` must be above 0"),
        (["--width", "0"], "`width` must be"),
        (["--out", "{used}"], "`--out` must be a new or empty folder"),
    ],
)
def test_mistakes_show_before_the_backend_starts(given, words, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg_cli.main.start_backend", Mock(side_effect=AssertionError))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    given = [part.format(used=tmp_path / "used") for part in given]
    done = run("train", "--data", "a.npz", *given)
    assert done.exit_code == 2
    assert words in done.output


def test_help_is_in_words_that_can_be_typed():
    for group in (main, main.commands["data"]):
        for command in group.commands.values():
            if isinstance(command, click.Group):
                continue
            options = [p for p in command.params if isinstance(p, click.Option)]
            names = {p.name for p in options if "_" in p.name}
            for option in options:
                assert option.help, (command.name, option.name)
                assert "None" not in option.help, option.name
                assert not names & set(re.findall(r"\w+", option.help)), option.help


def test_a_descriptor_is_silent_for_a_while_only(tmp_path):
    """Else no error of a command would be seen any more once the backend is awake."""
    with (tmp_path / "a").open("wb", 0) as file:
        with silent_descriptor(file.fileno()):
            os.write(file.fileno(), b"lost")
        os.write(file.fileno(), b"kept")
    assert (tmp_path / "a").read_bytes() == b"kept"
