"""What a command prints at its end."""

import math
from typing import Any

import click

FULL = 100  # epochs of a whole training; more is said of shorter ones


def print_table(summary: dict[str, Any], title: str) -> None:
    """Prints the metrics with their intervals; says so when the pixels are simulated."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from keras_proseg.metrics.table import table

    # Names may look like rich's markup.
    grid = Table(title=escape(title), title_justify="left")
    for name in ("metric", "mean", "95 % interval"):
        grid.add_column(name, justify="left" if name == "metric" else "right")
    for row in table(summary):
        grid.add_row(*map(escape, row))
    Console().print(grid)
    counts = f"{summary['num_cases']} cases of {summary['num_patients']} patients"
    click.echo(f"{counts}, {summary['num_samples']} samples each.")
    if summary["images"] == "phantom":
        click.echo("Pixels are SIMULATED (labels are real): these are no results on LIDC CT.")


def print_run(run: Any) -> None:
    """The table of a finished run, how long it trained, and what to do next."""
    from keras_proseg.text_files import read_json, with_nan

    summary = read_json(run.path / "metrics.json")
    title = "Validation patients (the best checkpoint was chosen on them)"
    print_table(with_nan(summary), title)
    size, split = run.train_config().batch_size, run.section("data")["split"]
    epochs = summary["steps"] / math.ceil(split["train"] / size)
    more = "" if epochs >= FULL else f" Train fully with, for example, --epochs {FULL}."
    click.echo(f"Trained {summary['steps']} steps, {epochs:.1f} epochs.{more}")
    click.echo(f"Run: {run.path}")
    click.echo(f"Picture: {run.path / 'samples.png'}")
