"""The training loop of a run: chunks of its plan, each ended by a checkpoint."""

import gc
import math
import time
from typing import Any

import numpy as np

from keras_proseg.config import ModelConfig, TrainConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.pipeline import BatchReader, training_batches
from keras_proseg.data.split import split_rows, subset
from keras_proseg.errors import ProSegError, require
from keras_proseg.evaluation import evaluate
from keras_proseg.keras_state import precision_of, random_seed
from keras_proseg.plan import Plan, first_plan, step_limit
from keras_proseg.progress import counting_bar
from keras_proseg.runs import Run
from keras_proseg.text_files import write_csv, write_json
from keras_proseg.timing import TIMED_STEPS, seconds_per_step

TIE = 0.02  # of `ged` less `dice_rater`: two standard errors of a difference on 48 cases


class Session:
    """The loop: chunks of steps, each ended by validation and a checkpoint."""

    def __init__(
        self, run: Run, model: ModelConfig, train: TrainConfig, dataset: Dataset, log: Any
    ) -> None:
        from keras_proseg.model import ProSeg
        from keras_proseg.optimizers import make_optimizer

        self.run, self.config, self.log = run, train, log
        self.reader = BatchReader(dataset, train, split_rows(dataset, "train"))
        self.val = subset(dataset, "val")
        self.started, self.cpu_started = time.monotonic(), time.process_time()
        with precision_of(train.precision):
            if (run.path / "last.keras").is_file():
                self.model = run.load_model("last")
            else:
                with random_seed(int(train.seed)):
                    self.model = ProSeg(config=model, seed=train.seed)
                self.model.compile(make_optimizer(train, self.model.has_trained_encoder))
        done = self.steps_done
        self._check_files(done)
        self.rows = [row for row in run.history() if row["step"] <= done]
        self.seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0
        self.cpu_before = self.rows[-1]["cpu_seconds"] if self.rows else 0.0

    @property
    def steps_done(self) -> int:
        return self.model.steps_done

    def _check_files(self, done: int) -> None:
        """What somebody removed must not begin the run anew, over what is left of it."""
        last, best = (self.run.path / f"{name}.keras" for name in ("last", "best"))
        there = last.is_file() or not best.is_file()
        require(there, str(self.run.path), f"a run with its {last.name}", "no such file")
        known = done == 0 or any(row["step"] == done for row in self.run.history())
        wanted = f"a run with its history.csv, to step {done}"
        require(known, str(self.run.path), wanted, "none of that step")

    def finish(self) -> Run:
        """Trains to the end of the plan, then scores the best checkpoint on val."""
        plan = self.run.plan() or self._first_plan()
        if is_best(self.rows):
            self.run.keep_as_best()  # a kill may have come between the two saves
        while self.steps_done < plan.steps:
            self._chunk(plan)
            if "minutes" in self.config.budget:
                plan = plan.adjusted(self.rows, self.config.budget["minutes"] * 60)
                self.run.write_plan(plan)
        self._report()
        return self.run

    def _first_plan(self) -> Plan:
        epoch, pace = -(-len(self.reader) // self.config.batch_size), None
        limit = step_limit(self.config.budget, epoch)
        if limit is None or ("minutes" in self.config.budget and limit > TIMED_STEPS):
            pace = seconds_per_step(lambda count, timer: self._fit(count, None, timer))
        spent = time.monotonic() - self.started
        plan = first_plan(self.config, limit, epoch, pace, self.steps_done, spent)
        self.run.write_plan(plan)
        self.log(
            f"Plan: {plan.steps} steps ({plan.steps / epoch:.1f} epochs), "
            f"checkpoint every {plan.chunk}."
        )
        return plan

    def _fit(self, count: int, plan: Plan | None, *callbacks: Any) -> dict[str, float]:
        import keras

        from keras_proseg.optimizers import WarmupCosine

        first = self.steps_done
        self.reader.exact_from = plan.step_at(1 - self.config.finish) if plan else math.inf
        schedule = WarmupCosine(self.config, plan, first)
        total, done = (plan.steps, first) if plan else (count, 0)
        with counting_bar(total, done, "Training") as advance:
            bar = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: advance())
            history = self.model.fit(
                training_batches(self.reader, first, self.config.augment),
                steps_per_epoch=count,
                callbacks=[schedule, *callbacks, bar],
                shuffle=False,
                verbose=0,
            )
        return {name: float(values[-1]) for name, values in history.history.items()}

    def _chunk(self, plan: Plan) -> None:
        from keras_proseg.trainers import check_any_step

        losses = self._fit(plan.count_from(self.steps_done), plan)
        check_any_step(self.model)
        val = self._validate()
        row = {"step": self.steps_done, **losses} | {f"val_{k}": v for k, v in val.items()}
        row["seconds"] = self.seconds_before + time.monotonic() - self.started
        row["cpu_seconds"] = self.cpu_before + time.process_time() - self.cpu_started
        self.rows.append(row)
        # history first: a kill in between repeats the chunk, and its row is dropped on resume.
        self.run.write_history(self.rows)
        self.run.save_model(self.model, "last")
        if is_best(self.rows):
            self.run.keep_as_best()
        self.log(
            f"step {row['step']:>6} / {plan.steps}  loss {row['loss']:.4f}  "
            f"val ged {val['ged']:.3f}  dice_rater {val['dice_rater']:.3f}  {row['seconds']:.0f} s"
        )

    def _validate(self) -> dict[str, float]:
        count = min(self.config.val_cases, len(self.val))
        rows = np.linspace(0, len(self.val) - 1, count).astype(int)
        cases, count = self.val.take(rows), self.config.val_samples
        try:
            summary, _ = evaluate(self.model, cases, count, progress=False, volumes=False)
        except ProSegError as error:  # steps that were finite may have led far away
            text = "What is learnt must give probabilities: lower the learning rate."
            raise ProSegError(f"{text} Received: {error}") from error
        return {name: summary[name] for name in ("ged", "dice_match", "dice_rater")}

    def _report(self) -> None:
        from keras_proseg.plotting import plot_samples

        steps = self.steps_done
        del self.model  # two models and their graphs at once would be the peak of memory
        gc.collect()
        best = self.run.load_model("best")
        summary, rows = evaluate(best, self.val, self.config.num_samples)
        summary |= {"split": "val", "steps": steps}
        summary |= {name: self.rows[-1][name] for name in ("seconds", "cpu_seconds")}
        write_csv(self.run.path / "cases.csv", rows)
        write_json(self.run.path / "metrics.json", summary)
        plot_samples(best, self.val, self.run.path / "samples.png")


def is_best(rows: list[dict[str, Any]]) -> bool:
    """Whether the checkpoint of the last of `rows` is the one to keep.

    Of checkpoints that the few validation cases cannot tell apart it is the latest: the rate falls
    to 0, so that it has settled most.
    """
    misfits = [row["val_ged"] - row["val_dice_rater"] for row in rows]
    return bool(misfits) and misfits[-1] <= min(misfits) + TIE
