"""The commands of `keras-proseg`. Heavy imports live inside them; errors leave by `door.py`."""

from pathlib import Path
from typing import Any

import click

from keras_proseg import __version__
from keras_proseg.config import (
    NUM_SAMPLES,
    SCORED_SAMPLES,
    ExportConfig,
    NewRaterConfig,
    preset_configs,
)
from keras_proseg.files import check_new_folder

from .data import data
from .door import Door
from .options import backend_option, config_options, export_options, given, new_rater_options
from .start import backend_of, start_backend


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keras-proseg")
def main() -> None:
    """Personalised and diverse segmentation from many raters (ProSeg)."""


main.add_command(data)


@main.command()
@click.option(
    "--data", metavar="SOURCE", help="lidc, FILE.npz, a manifest, a folder ... to train on."
)
@click.option("--out", metavar="RUN", help="Run directory [default: runs/<date>-<source>].")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped.")
@backend_option
@config_options
def train(
    data: str | None, out: str | None, resume: str | None, backend: str | None, **settings: Any
) -> None:
    """Train, validate and leave a run directory with metrics and a picture."""
    settings = given(settings)
    if (data is None) == (resume is None):
        raise click.UsageError("Give either --data or --resume RUN.")
    if resume is not None and (settings or out):
        raise click.UsageError("--resume goes on with the run's own settings: give it alone.")
    if resume is None:  # mistakes show before seconds of imports
        preset_configs(**({"preset": "default"} | settings))
        if out is not None:
            check_new_folder(Path(out), "--out")
    start_backend(backend or (None if resume is None else backend_of(resume)))
    from keras_proseg import training

    from .report import print_run

    if resume is not None:
        run = training.resume(resume, log=click.echo)
    else:
        run = training.train(str(data), out, log=click.echo, **settings)
    print_run(run)


@main.command()
@click.argument("run")
@click.argument("image")
@click.option("--out", metavar="DIR", help="New folder [default: samples/<date>-<image>].")
@click.option("--rater", help="Draw as this rater (name, or index from 0) [default: anyone].")
@click.option("--num-samples", default=NUM_SAMPLES, show_default=True, type=click.IntRange(1),
              help="How many are drawn of each image.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Equal ones give equal samples, on one backend.")  # fmt: skip
@backend_option
def sample(
    run: str,
    image: str,
    out: str | None,
    rater: str | None,
    num_samples: int,
    seed: int,
    backend: str | None,
) -> None:
    """Draw segmentations of IMAGE (.npz, .npy, .png, .nii, .nii.gz, .dcm or a folder of them).

    RUN is a run directory, or `lidc`: a trained model that ships with the package.
    """
    start_backend(backend)
    from keras_proseg.outputs.sample_file import sample_file

    written = sample_file(run, image, out, rater, num_samples, seed)
    for path in written:
        click.echo(path)


@main.command()
@click.argument("run")
@click.option("--data", metavar="SOURCE", help="Other data [default: the run's own].")
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]),
              help="Which cases [default: val of the run's own, all of other data].")  # fmt: skip
@click.option("--num-samples", default=SCORED_SAMPLES, show_default=True, type=click.IntRange(1),
              help="How many are drawn of each case.")  # fmt: skip
@click.option("--out", metavar="DIR", help="Folder for metrics.json and cases.csv.")
@click.option("--save-masks", metavar="DIR", help="New folder for each rater's predicted masks.")
@backend_option
def evaluate(
    run: str,
    data: str | None,
    split: str | None,
    num_samples: int,
    out: str | None,
    save_masks: str | None,
    backend: str | None,
) -> None:
    """Score a trained RUN, or `lidc`, with every metric.

    By default on its validation cases; of other data on all, which --split changes. `lidc` ships
    without its data: give some.
    """
    start_backend(backend)
    from keras_proseg.evaluation import evaluate_run

    from .report import print_table

    summary = evaluate_run(run, data, split, num_samples, out, save_masks, click.echo)
    print_table(summary, f"{summary['split']} cases of {summary['source']}")


@main.command()
@click.argument("run")
@click.option("--data", required=True, metavar="SOURCE", help="Where the new rater's masks are.")
@click.option("--rater", required=True, metavar="NAME", help="A rater of SOURCE, new to RUN.")
@click.option("--out", required=True, metavar="RUN", help="The new run directory.")
@backend_option
@new_rater_options
def add_rater(
    run: str, data: str, rater: str, out: str, backend: str | None, **settings: Any
) -> None:
    """Let a trained RUN, or `lidc`, draw as a new rater too, learnt from a few of their masks."""
    config = NewRaterConfig(**given(settings))
    start_backend(backend)
    from keras_proseg.run_rater import add_rater_to_run

    made = add_rater_to_run(run, data, rater, out, config, click.echo)
    click.echo(f"Run: {made.path}")


@main.command()
@click.argument("run")
@click.option("--out", required=True, metavar="DIR", help="Its name is the model's name.")
@export_options
def export(run: str, out: str, **settings: Any) -> None:
    """Write a trained RUN, or `lidc`, as DIR/<version>/ for TensorFlow Serving, ONNX or LiteRT."""
    config = ExportConfig(**given(settings))
    start_backend("tensorflow")  # the only one that writes a SavedModel dynamic in every size
    from keras_proseg.export import export_run

    click.echo(export_run(run, out, config))


if __name__ == "__main__":
    main()
