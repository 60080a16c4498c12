"""`keras-proseg data`: look at a source before training on it, and prepare it."""

import sys
from pathlib import Path
from typing import Any

import click

from .options import data_options, given


@click.group()
def data() -> None:
    """Verify, audit and prepare data. SOURCE is whatever `train --data` takes."""


@data.command()
@click.argument("source")
@data_options
def verify(source: str, **settings: Any) -> None:
    """Name everything that is wrong with SOURCE; exit code 1 when something must be mended."""
    from keras_proseg.data.sources import verify_source

    findings, dataset = verify_source(source, _config(settings))
    for finding in findings.items:
        click.echo(f"{'ERROR' if finding.fatal else 'note '} {finding}")
    if dataset is not None:
        click.echo(_counts(dataset))
        _tell_simulated(dataset)
    errors = len(findings.fatal)
    notes = len(findings.items) - errors
    click.echo(f"{source}: {errors} to mend, {notes} to know.")
    sys.exit(1 if errors else 0)


@data.command()
@click.argument("source")
@click.option("--out", required=True, metavar="FILE", help="The prepared file, for train --data.")
@click.option("--shards", default=1, show_default=True, type=click.IntRange(1),
              help="Write so many files into a folder OUT, for shared storage.")  # fmt: skip
@data_options
def prepare(source: str, out: str, shards: int, **settings: Any) -> None:
    """Write SOURCE as one file that is read fast: memory-mapped, bit-packed, checksummed."""
    from keras_proseg.config import as_stored
    from keras_proseg.data.findings import note_lines
    from keras_proseg.data.preparing import check_target, write_prepared
    from keras_proseg.data.sources import read_dataset

    check_target(Path(out), shards)  # before minutes of reading
    dataset = read_dataset(source, as_stored(_config(settings)))
    for path in write_prepared(dataset, out, shards):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    for line in note_lines(dataset.notes):
        click.echo(line)
    click.echo(_counts(dataset))
    _tell_simulated(dataset)


@data.command()
@click.argument("source")
@click.option("--out", required=True, metavar="DIR", help="A new or empty folder.")
@data_options
def audit(source: str, out: str, **settings: Any) -> None:
    """Report who the raters of SOURCE are: agreement, size, STAPLE, the most disputed cases."""
    from keras_proseg.audit.report import verdict, write_audit
    from keras_proseg.config import as_stored
    from keras_proseg.data.sources import read_dataset
    from keras_proseg.files import check_new_folder
    from keras_proseg.text_files import read_json

    check_new_folder(Path(out), "--out")  # before minutes of reading
    path = write_audit(read_dataset(source, as_stored(_config(settings))), out)
    click.echo(verdict(read_json(path.with_suffix(".json"))["identity"]))
    click.echo(path)


def _config(settings: dict[str, Any]) -> Any:
    from keras_proseg.config import DataConfig

    return DataConfig(**given(settings))


def _tell_simulated(dataset: Any) -> None:
    from keras_proseg.data.findings import SIMULATED

    if dataset.image_kind == "phantom":
        click.echo(SIMULATED)


def _counts(dataset: Any) -> str:
    patients = len(set(dataset.patients.tolist()))
    size = "x".join(str(side) for side in dataset.images.shape[1:])
    text = f"{len(dataset)} cases of {patients} patients ({dataset.group_by}), {size}; "
    raters = " ".join(", ".join(dataset.raters).splitlines())
    text += f"{dataset.num_classes} structure(s); raters {raters}"
    return text + (f"; {dataset.dropped} without any rater left out" if dataset.dropped else "")
