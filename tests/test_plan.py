"""The plan of a run against closed forms, and on machines that change their pace."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from keras_proseg import timing
from keras_proseg.config import TrainConfig
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.plan import CHECKPOINT_SECONDS, Plan, first_plan, step_limit
from keras_proseg.runs import Run


def simulate(minutes, seconds_of_step, first_pace, limit=None, start=20.0):
    """Plans, and `step` and `seconds` at every checkpoint, of a run on a machine of that pace."""
    config = TrainConfig(minutes=minutes)
    plans = [first_plan(config, limit, 261, first_pace, 40, start)]
    rows, step, clock = [], 40, start
    while step < plans[-1].steps:
        for _ in range(plans[-1].count_from(step)):
            clock += seconds_of_step(clock)
            step += 1
        clock += 2.0  # validation
        rows.append({"step": step, "seconds": clock})
        plans.append(plans[-1].adjusted(rows, minutes * 60))
    return plans, rows


def test_progress_goes_from_0_to_1_and_back_to_its_step():
    plan = Plan(steps=100, chunk=10)
    assert [plan.progress_at(s) for s in (0, 25, 100, 101)] == [0, 0.25, 1, 1]
    later = Plan(steps=200, chunk=10, since=50, progress=0.5)
    assert [later.progress_at(s) for s in (50, 125, 200)] == [0.5, 0.75, 1]
    assert later.step_at(0.88) == pytest.approx(50 + 0.38 / 0.5 * 150)
    assert later.progress_at(later.step_at(0.88)) == pytest.approx(0.88)
    assert later.step_at(0.4) < later.since  # passed already
    assert [later.count_from(s) for s in (50, 57, 195)] == [10, 3, 5]


def test_limits_in_steps_and_epochs():
    assert step_limit({"steps": 30, "epochs": 2}, 10) == 20
    assert step_limit({"minutes": 3.0}, 10) is None
    plan = first_plan(TrainConfig(epochs=2), 20, 10, None, 0, 5.0)
    assert plan == Plan(steps=20, chunk=4, limit=20)


def test_a_steady_machine_gets_the_minutes_and_a_checkpoint_every_45_seconds():
    _, rows = simulate(10, lambda _: 0.1, 0.1)
    assert rows[-1]["seconds"] == pytest.approx(600, rel=0.01)
    gaps = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise(rows)]
    assert max(gaps) == pytest.approx(CHECKPOINT_SECONDS + 2, abs=0.2)


@pytest.mark.parametrize(
    ("name", "pace", "first"),
    [
        ("three times faster after its first minute", lambda t: 0.1, 0.3),
        ("half as fast from the middle on", lambda t: 0.1 if t < 300 else 0.2, 0.1),
        ("twice as fast from the middle on", lambda t: 0.2 if t < 300 else 0.1, 0.2),
        ("swinging", lambda t: 0.1 * (1.5 + 0.5 * math.sin(t / 40)), 0.1),
    ],
)
def test_a_machine_that_changes_its_pace_ends_in_time_at_a_rate_of_0(name, pace, first):
    plans, rows = simulate(10, pace, first)
    assert rows[-1]["seconds"] == pytest.approx(600, rel=0.05)
    assert plans[-1].progress_at(rows[-1]["step"]) == 1
    before = [old.progress_at(r["step"]) for old, r in zip(plans, rows, strict=False)]
    after = [new.progress_at(r["step"]) for new, r in zip(plans[1:], rows, strict=True)]
    assert before == pytest.approx(after)  # the rate never jumps
    assert before == sorted(before)


def test_a_new_plan_keeps_half_of_the_steps_to_go_and_the_limit():
    plan = Plan(steps=1000, chunk=100)
    slow = [{"step": 100, "seconds": 30.0}, {"step": 200, "seconds": 3000.0}]
    assert plan.adjusted(slow, 60).steps == 600
    fast = [{"step": 100, "seconds": 30.0}, {"step": 200, "seconds": 50.0}]
    assert plan.adjusted(fast, 600).steps == 200 + 550 / 0.2
    assert Plan(steps=1000, chunk=100, limit=1200).adjusted(fast, 600).steps == 1200
    assert plan.adjusted(slow[:1], 60) is plan
    assert Plan(steps=200, chunk=100).adjusted(fast, 600).steps == 200


def test_a_plan_of_an_older_version_is_read_and_another_file_refused(tmp_path):
    run = Run(tmp_path)
    assert run.plan() is None
    (tmp_path / "plan.json").write_text('{"steps": 60, "chunk": 10}')
    assert run.plan().progress_at(30) == 0.5
    for changed in ('{"steps": "60", "chunk": 10}', '{"steps": 60, "chunk": 0}'):
        (tmp_path / "plan.json").write_text(changed)
        with pytest.raises(ProSegError, match=r"hold the plan of a run. Received: .*`\w+` must be"):
            run.plan()
    (tmp_path / "plan.json").write_text('{"name": "of something else"}')
    with pytest.raises(
        ProSegError, match=r"plan\.json must hold the plan of a run. Received: .*name"
    ):
        run.plan()


def test_the_pace_is_that_of_the_last_chunks():
    rows = [{"step": 100 * k, "seconds": s} for k, s in enumerate((0, 900, 1000, 1010, 1020))]
    assert Plan(steps=1000, chunk=100).adjusted(rows, 1080).steps == 1000  # 0.1 s a step by now


@pytest.mark.parametrize("odd", [{"since": 60}, {"since": -1}, {"progress": 1.0}])
def test_a_plan_goes_on_from_a_step_before_its_last(odd):
    with pytest.raises(
        UsageError, match="`since` and `progress` must be of a step before the last"
    ):
        Plan(steps=60, chunk=10, **odd)


def test_minutes_that_are_spent_before_the_plan_count():
    config = TrainConfig(minutes=10)
    whole, late = (first_plan(config, None, 1000, 0.5, 0, spent).steps for spent in (0, 30))
    assert whole - late == 60


def test_the_pace_is_the_median_of_the_steps_after_the_first_third(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def fit(count, timer):
        timer.set_model(SimpleNamespace(sync_state=lambda: None, steps_done=0))
        timer.on_train_begin()
        for step in range(count):
            clock[0] += step
            timer.on_train_batch_end(step)

    assert timing.seconds_per_step(fit) == np.median(range(13, timing.TIMED_STEPS))


def test_a_plan_has_a_step_however_slow_the_machine():
    config = TrainConfig(minutes=1)
    assert first_plan(config, None, 100, 90.0, 0, 0.0) == Plan(steps=1, chunk=1)
    assert first_plan(config, None, 100, 1.0, 40, 300.0).steps == 41
    assert first_plan(config, None, 100, 1.0, 0, 0.0).steps == 57  # 3 s are for validation
