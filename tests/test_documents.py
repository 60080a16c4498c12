"""Command lines in the documents are ones that the command line knows, and all of it is named."""

import re
from pathlib import Path

import click
import pytest
from keras_proseg_cli.main import main

ROOT = Path(__file__).parents[1]
CARD = ROOT / "keras_proseg" / "shipped" / "lidc" / "README.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), CARD]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SHORT = {"-h", "--help"}


def command_lines(text):
    """What stands behind `keras-proseg` in code: of blocks to the line's end, else to the tick."""
    fenced = "\n".join(FENCED.findall(text))
    rest = FENCED.sub("", text)
    found = re.findall(r"keras-proseg +(.*)", fenced)
    found += re.findall(r"^ {4}.*?keras-proseg +(.*)", rest, re.MULTILINE)
    found += re.findall(r"`keras-proseg\s+([^`]+)`", rest)
    return [" ".join(line.split()) for line in found]


def commands(group=main, names=()):
    """{its words: command}, of all that do something."""
    found = {}
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found |= commands(command, (*names, name)) if inner else {(*names, name): command}
    return found


def options_of(command):
    options = [p for p in command.params if isinstance(p, click.Option)]
    return {flag: option for option in options for flag in option.opts + option.secondary_opts}


def mistakes(line):
    """What of a command line, in which [ ] and | may stand, the commands do not know."""
    words = re.sub(r"[\[\]]", " ", line).split()
    known = commands()
    name = next((tuple(words[:n]) for n in (1, 2) if tuple(words[:n]) in known), None)
    if name is None:
        return [] if words[:1] and words[0] in SHORT else [f"no command {' '.join(words[:2])}"]
    options, wrong = options_of(known[name]), []
    for flag, value in zip(words, [*words[1:], ""], strict=True):
        if flag.startswith("-") and flag not in SHORT:
            kind = getattr(options.get(flag), "type", None)
            choices = value.split("|") if isinstance(kind, click.Choice) else []
            wrong += [] if flag in options else [f"no option {flag}"]
            wrong += [f"no {flag} {c}" for c in choices if c not in kind.choices]
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_known(path):
    lines = command_lines(path.read_text())
    assert lines
    assert {line: wrong for line in lines if (wrong := mistakes(line))} == {}


def test_every_command_is_named():
    lines = [line for path in DOCUMENTS[:-1] for line in command_lines(path.read_text())]
    for words in commands():
        assert any(line.split()[: len(words)] == list(words) for line in lines), words


@pytest.mark.parametrize("path", [ROOT / "README.md", CARD], ids=["README", "card"])
def test_flags_named_alone_are_some_commands(path):
    known = {flag for command in commands().values() for flag in options_of(command)}
    spans = re.findall(r"`([^`]+)`", FENCED.sub("", path.read_text()))
    flags = {flag for span in spans for flag in re.findall(r"(?<!\S)--[a-z-]+", span)}
    assert flags <= known | SHORT


def test_mistakes_are_seen():
    text = "    a && keras-proseg train --data X\nand `keras-proseg data\nverify X` or\n"
    text += "```bash\nkeras-proseg trian [--seed N]\n```\n"
    lines = ["trian [--seed N]", "train --data X", "data verify X"]
    assert command_lines(text) == lines
    assert [mistakes(line) for line in lines] == [["no command trian --seed"], [], []]
    assert mistakes("export RUN [--format onnx|tflite] [--spacing 1]") == [
        "no --format tflite", "no option --spacing",
    ]  # fmt: skip
    assert mistakes("data audit X --shards 2") == ["no option --shards"]
