"""The plan of a run: how many steps it takes, and how far along each of them is.

Rate and augmentation follow the progress from 0 to 1. A limit in minutes becomes one in steps by
the pace of the machine, measured again at every checkpoint, as others may use the machine too.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from keras_proseg.config import TrainConfig
from keras_proseg.config.checks import check_least, check_types
from keras_proseg.errors import UsageError

CHECKPOINT_SECONDS = 45
VALIDATION_SHARE = 0.05  # of the minutes, as long as no validation was timed
RECENT = 2  # checkpoints over which the pace is measured
LEAST_KEPT = 0.5  # one new plan cuts at most half of the steps that remain


@dataclass(frozen=True)
class Plan:
    """What is still to do of a run, and how the progress goes from here.

    Attributes:
        steps: steps of the whole run.
        chunk: steps between checkpoints.
        limit: steps that no new plan goes beyond; None without a limit in steps or epochs.
        since: the step that this plan was made at.
        progress: the progress there.
    """

    steps: int
    chunk: int
    limit: int | None = None
    since: int = 0
    progress: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        check_least(self, ("steps", "chunk"), 1)
        if not (0 <= self.since < self.steps and 0 <= self.progress < 1):
            text = "`since` and `progress` must be of a step before the last."
            raise UsageError(f"{text} Received: {self.since}, {self.progress}")

    def progress_at(self, step: float) -> float:
        """Between 0 and 1, in proportion to the steps from `since` on."""
        if step >= self.steps:
            return 1.0
        share = (step - self.since) / (self.steps - self.since)
        return self.progress + (1 - self.progress) * share

    def step_at(self, progress: float) -> float:
        """The step, not rounded, at which the progress is `progress`."""
        share = (progress - self.progress) / (1 - self.progress)
        return self.since + share * (self.steps - self.since)

    def count_from(self, step: int) -> int:
        """Steps from `step` to the next checkpoint."""
        return min(self.chunk - step % self.chunk, self.steps - step)

    def adjusted(self, rows: list[dict[str, Any]], seconds: float) -> "Plan":
        """The plan from the last checkpoint on that ends after `seconds` of the run.

        The progress goes on where it is, and reaches 1 in fewer or more steps.

        Args:
            rows: `step` and `seconds` of the checkpoints so far.
            seconds: the limit in minutes, in seconds.
        """
        done = int(rows[-1]["step"]) if rows else 0
        if len(rows) < 2 or done >= self.steps:
            return self  # the first one took the start of the run as well
        first = rows[-1 - min(RECENT, len(rows) - 1)]
        pace = (rows[-1]["seconds"] - first["seconds"]) / (done - first["step"])
        left = (seconds - rows[-1]["seconds"]) / pace
        left = max(left, (self.steps - done) * LEAST_KEPT)
        steps = _within(done + math.ceil(left), self.limit)
        return replace(self, steps=steps, since=done, progress=self.progress_at(done))


def first_plan(
    config: TrainConfig, limit: int | None, epoch: int, pace: float | None, done: int, spent: float
) -> Plan:
    """The plan at the start of a run.

    Args:
        config: the limit in minutes, and the number of validations.
        limit: the `step_limit`.
        epoch: steps of an epoch.
        pace: measured seconds of a step; None leaves the limit in minutes for later.
        done: steps done by then.
        spent: seconds of the run by then.
    """
    steps, chunk = limit or 0, epoch
    if pace is not None:
        left = config.budget["minutes"] * 60 * (1 - VALIDATION_SHARE) - spent
        steps = _within(done + max(1, int(left / pace)), limit)
        chunk = max(1, int(CHECKPOINT_SECONDS / pace))
    return Plan(steps, min(chunk, -(-steps // config.validations)), limit)


def step_limit(budget: dict[str, float], epoch: int) -> int | None:
    """What limits in steps and in epochs (of `epoch` steps) allow; None without any."""
    limits = [int(budget["steps"])] if "steps" in budget else []
    limits += [int(budget["epochs"]) * epoch] if "epochs" in budget else []
    return min(limits, default=None)


def _within(steps: int, limit: int | None) -> int:
    return steps if limit is None else min(steps, limit)
