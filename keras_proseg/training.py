"""One training run: data to run directory, resumable at every checkpoint."""

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import ModelConfig, TrainConfig, preset_configs, with_intensity
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.pipeline import BatchReader, training_pipeline
from keras_proseg.data.sources import load_dataset
from keras_proseg.data.split import split_dataset, subset
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.evaluation import evaluate, plain
from keras_proseg.files import write_json
from keras_proseg.runs import Run, write_csv

TIMED_STEPS = 12  # of which the first 4 warm up; then a plan in minutes becomes one in steps
CHECKPOINT_SECONDS = 45
VALIDATION_SHARE = 0.05  # of the minutes, kept for validation during the run


def train(
    data: str | Dataset, out: str | Path | None = None, log: Any = print, **settings: Any
) -> Run:
    """Trains ProSeg and leaves a run directory.

    Args:
        data: `"lidc"`, the path of an npz, or a `Dataset`.
        out: the run directory; by default `runs/<date>-<source>`.
        log: called with lines for people.
        **settings: fields of `TrainConfig` and `ModelConfig` by name.

    Returns:
        The finished `Run`; `keras_proseg.load(run.path)` gives its model.

    Raises:
        UsageError: unknown settings, a used `out`.
        ProSegError: bad data, or a loss that stays non-finite.
    """
    model_config, train_config = preset_configs(settings.pop("preset", "default"), **settings)
    dataset = _dataset(data, train_config)
    run = Run.create(out, dataset.source)
    model_config = fit_config(model_config, dataset)
    facts = _facts(data, dataset)
    run.write_config(model_config, train_config, facts)
    _announce(dataset, facts, log)
    return _Session(run, model_config, train_config, dataset, log).finish()


def resume(path: str | Path, data: Dataset | None = None, log: Any = print) -> Run:
    """Goes on with a run that was stopped; a finished one is only reported.

    Args:
        path: the run directory.
        data: needed when the run was trained on a `Dataset` from Python.
        log: called with lines for people.

    Raises:
        ProSegError: no run there, or its data has changed.
    """
    run = Run.open(path)
    config, train_config = run.config, run.train_config()
    dataset = _dataset(run_data(run) if data is None else data, train_config)
    if dataset.fingerprint() != config["data"]["fingerprint"]:
        raise ProSegError(
            f"{dataset.source} must be the data that {path} was trained on. Received: changed data"
        )
    model_config = ModelConfig(**config["model"])
    return _Session(run, model_config, train_config, dataset, log).finish()


def evaluate_run(
    path: str | Path,
    data: str | None = None,
    split: str | None = None,
    num_samples: int = 50,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Scores the best model of a run.

    Args:
        path: the run directory.
        data: another source; the run's own by default.
        split: `"train"`, `"val"`, `"test"` or `"all"`; val of the run's data, all of other data.
        num_samples: S per case.
        out: folder for metrics.json and cases.csv.

    Returns:
        The summary of `keras_proseg.evaluate`, with `split` and `source`.

    Raises:
        UsageError: a split that the data lacks.
        ProSegError: no run, or data that does not fit it.
    """
    run = Run.open(path)
    config = run.train_config()
    config = replace(config, rater_order=_rater_order(run))
    source = data or run_data(run)
    split = split or ("all" if data else "val")
    dataset = subset(load_dataset(source, config), split)
    summary, rows = evaluate(run.load_model("best"), dataset, num_samples)
    summary |= {"split": split, "source": Path(source).name}
    if out is not None:
        write_csv(Path(out) / "cases.csv", rows)
        write_json(Path(out) / "metrics.json", plain(summary))
    return summary


def _rater_order(run: Run) -> str:
    """The order that the run was trained with, which other data takes over."""
    ranked = run.train_config().rater_order
    return ranked or ("area" if run.config["data"]["source"] == "lidc" else "given")


def run_data(run: Run) -> str:
    """The source of a run, to be loaded again."""
    source = run.config["data"]["source"]
    if source is None:
        raise UsageError(f"{run.path} was trained on arrays: give the data. Received: none")
    return source


def fit_config(config: ModelConfig, dataset: Dataset) -> ModelConfig:
    """`config` with raters, channels, classes and intensities of the training cases."""
    images = subset(dataset, "train").images
    if dataset.image_kind in ("ct", "phantom"):
        config = with_intensity(config, mode="window")
    else:
        spread = float(images.std(dtype=np.float64)) or 1.0
        config = with_intensity(config, mean=float(images.mean(dtype=np.float64)), std=spread)
    return replace(
        config,
        raters=dataset.raters,
        image_channels=images.shape[-1],
        num_classes=dataset.num_classes,
    )


def _dataset(data: str | Dataset, config: TrainConfig) -> Dataset:
    if isinstance(data, Dataset):
        return split_dataset(data, config.seed)
    return load_dataset(data, config)


def _announce(dataset: Dataset, facts: dict[str, Any], log: Any) -> None:
    if dataset.image_kind == "phantom":
        log("NOTE: the PIXELS ARE SIMULATED (no DICOM files); the outlines are real readers'.")
        log("      What this run scores is not a result on LIDC CT. --dicom DIR uses real CT.")
    sides = ", ".join(f"{count} {side}" for side, count in facts["split"].items())
    dropped = f"; {dataset.dropped} without any rater left out" if dataset.dropped else ""
    log(f"{len(dataset)} cases ({sides}), split by {dataset.group_by}{dropped}.")
    log(f"Raters: {', '.join(dataset.raters)}")


def _facts(data: str | Dataset, dataset: Dataset) -> dict[str, Any]:
    assert dataset.split is not None
    sides, counts = np.unique(dataset.split, return_counts=True)
    source = None if isinstance(data, Dataset) else data
    if source not in (None, "lidc"):
        source = str(Path(str(source)).resolve())
    return {
        "source": source,
        "images": dataset.image_kind,
        "fingerprint": dataset.fingerprint(),
        "split": dict(zip(sides.tolist(), counts.tolist(), strict=True)),
        "group_by": dataset.group_by,
        "dropped": dataset.dropped,
        "notes": dataset.notes,
    }


class _Session:
    """The loop: chunks of steps, each ended by validation and a checkpoint."""

    def __init__(
        self, run: Run, model: ModelConfig, train: TrainConfig, dataset: Dataset, log: Any
    ) -> None:
        import keras

        from keras_proseg.model import ProSeg
        from keras_proseg.optimizers import make_optimizer

        self.run, self.config, self.log, self.dataset = run, train, log, dataset
        cases = subset(dataset, "train")
        self.reader = BatchReader(cases, train.batch_size, train.seed)
        self.val = subset(dataset, "val")
        self.started, self.cpu_started = time.monotonic(), time.process_time()
        if (run.path / "last.keras").is_file():
            self.model = run.load_model("last")
        else:
            keras.utils.set_random_seed(train.seed)
            self.model = ProSeg(config=model, seed=train.seed)
            self.model.compile(make_optimizer(train))
        done = self.steps_done
        self.rows = [row for row in run.history() if row["step"] <= done]
        self.seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0
        self.cpu_before = self.rows[-1]["cpu_seconds"] if self.rows else 0.0

    @property
    def steps_done(self) -> int:
        return int(np.asarray(self.model.steps_seen))

    def finish(self) -> Run:
        """Trains to the end of the plan, then scores the best checkpoint on val."""
        plan = self.run.plan() or self._make_plan()
        if self.rows and self.rows[-1]["val_ged"] == min(row["val_ged"] for row in self.rows):
            self.run.keep_as_best()  # a kill may have come between the two saves
        while self.steps_done < plan["steps"]:
            done = self.steps_done
            self._chunk(min(plan["chunk"] - done % plan["chunk"], plan["steps"] - done), plan)
        self._report()
        return self.run

    def _make_plan(self) -> dict[str, int]:
        budget = self.config.budget
        epoch = -(-len(self.reader.dataset) // self.config.batch_size)
        limits = [int(budget["steps"])] if "steps" in budget else []
        limits += [int(budget["epochs"]) * epoch] if "epochs" in budget else []
        chunk = epoch
        if "minutes" in budget:
            seconds = self._time_steps()
            left = budget["minutes"] * 60 * (1 - VALIDATION_SHARE)
            left -= time.monotonic() - self.started
            limits.append(self.steps_done + max(1, int(left / seconds)))
            chunk = max(1, int(CHECKPOINT_SECONDS / seconds))
        steps = min(limits)
        chunk = min(chunk, -(-steps // self.config.validations))
        plan = {"steps": steps, "chunk": chunk}
        write_json(self.run.path / "plan.json", plan)
        self.log(f"Plan: {steps} steps ({steps / epoch:.1f} epochs), checkpoint every {chunk}.")
        return plan

    def _time_steps(self) -> float:
        """Median seconds of a step, from real first steps of the run."""
        timer = _timer()
        self._fit(TIMED_STEPS, float("inf"), [timer])
        return statistics.median(timer.seconds[TIMED_STEPS // 3 :])

    def _fit(self, count: int, planned: float, callbacks: list[Any]) -> dict[str, float]:
        from keras_proseg.optimizers import WarmupCosine

        first = self.steps_done
        schedule = WarmupCosine(self.config, planned, first)
        history = self.model.fit(
            training_pipeline(self.reader, first, self.config.augment),
            steps_per_epoch=count,
            callbacks=[schedule, *callbacks],
            verbose=0,
        )
        return {name: float(values[-1]) for name, values in history.history.items()}

    def _chunk(self, count: int, plan: dict[str, int]) -> None:
        losses = self._fit(count, plan["steps"], [])
        val = self._validate()
        row = {"step": self.steps_done, **losses} | {f"val_{k}": v for k, v in val.items()}
        row["seconds"] = self.seconds_before + time.monotonic() - self.started
        row["cpu_seconds"] = self.cpu_before + time.process_time() - self.cpu_started
        best = min((r["val_ged"] for r in self.rows), default=np.inf)
        self.rows.append(row)
        # history first: a kill in between repeats the chunk, and its row is dropped on resume.
        self.run.write_history(self.rows)
        self.run.save_model(self.model, "last")
        if val["ged"] <= best:
            self.run.keep_as_best()
        self.log(
            f"step {row['step']:>6} / {plan['steps']}  loss {row['loss']:.4f}  "
            f"val ged {val['ged']:.3f}  dice_rater {val['dice_rater']:.3f}  {row['seconds']:.0f} s"
        )

    def _validate(self) -> dict[str, float]:
        count = min(self.config.val_cases, len(self.val))
        rows = np.linspace(0, len(self.val) - 1, count).astype(int)
        summary, _ = evaluate(
            self.model, self.val.take(rows), self.config.val_samples, progress=False
        )
        return {name: summary[name] for name in ("ged", "dice_match", "dice_rater")}

    def _report(self) -> None:
        from keras_proseg.plotting import plot_samples

        best = self.run.load_model("best")
        summary, rows = evaluate(best, self.val, self.config.num_samples)
        summary |= {"split": "val", "steps": self.steps_done}
        summary |= {name: self.rows[-1][name] for name in ("seconds", "cpu_seconds")}
        write_csv(self.run.path / "cases.csv", rows)
        write_json(self.run.path / "metrics.json", plain(summary))
        plot_samples(best, self.val, self.run.path / "samples.png")


def _timer() -> Any:
    import keras

    class StepTimer(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.begin)

    return StepTimer()
