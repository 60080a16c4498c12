"""Where the time from the command to the first training step goes (TensorFlow, CPU).

    python benchmarks/startup.py

`keras-proseg train` with the default preset on the data of speed.py, stopped after its second step,
in processes of their own: median seconds of each stage and its 10 to 90 % range, and of the same
seconds those of the processor. The second step is what the hardware needs for one; all before it is
done once. Below the table: what the imports load and how large the graph is.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 5
WIDTH = 44


def main() -> None:
    """Runs the command a few times and prints the table."""
    if sys.argv[1:2] == ["--child"]:
        _child(float(sys.argv[2]), sys.argv[3], sys.argv[4])
        return
    from speed import write_discs

    with tempfile.TemporaryDirectory() as folder:
        write_discs(Path(folder) / "discs.npz")
        runs = [_run(Path(folder), k) for k in range(REPEATS)]
    print(f"{'stage':{WIDTH}s}{'seconds':>9s}{'10 to 90 %':>16s}{'CPU':>8s}")
    for stage in runs[0]["stages"]:
        wall, cpu = np.array([run["stages"][stage] for run in runs]).T
        _print_row(stage, wall, cpu)
    totals = np.array([np.sum(list(run["stages"].values()), axis=0) for run in runs])
    _print_row("all", *totals.T)
    print("; ".join(f"{value} {name}" for name, value in runs[0]["counts"].items()))


def _print_row(stage: str, wall: np.ndarray, cpu: np.ndarray) -> None:
    low, middle, high = np.percentile(wall, [10, 50, 90])
    spread = f"{low:.2f} to {high:.2f}"
    print(f"{stage:{WIDTH}s}{middle:9.2f}{spread:>16s}{np.median(cpu):8.2f}")


def _run(folder: Path, number: int) -> dict[str, Any]:
    arguments = [repr(time.time()), str(folder / "discs.npz"), str(folder / f"run{number}")]
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


class Stages:
    """Seconds and CPU seconds of each stage since the one before.

    Args:
        started: time of the command.
    """

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self.counts: dict[str, int] = {}
        self.last = started, 0.0

    def end(self, stage: str) -> None:
        """Ends `stage`; a second end of the same counts for nothing."""
        now = time.time(), time.process_time()
        if stage not in self.seconds:
            self.seconds[stage] = now[0] - self.last[0], now[1] - self.last[1]
            self.last = now


def _child(started: float, data: str, out: str) -> None:
    stages = Stages(started)
    stages.end("Python")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "tensorflow_probability"):  # the first imports Keras
        importlib.import_module(name)
        stages.end(f"import of {name}")
    from keras_proseg_cli.main import main as command

    _watch_session(stages)
    _watch_step(stages)
    stages.end("import of the rest")
    stages.counts |= {"modules": len(sys.modules), "MB in their files": _megabytes_loaded()}
    command(["train", "--data", data, "--out", out])


def _watch_session(stages: Stages) -> None:
    import keras

    from keras_proseg.session import Session

    begin, fit = Session.__init__, Session._fit

    def watched(self: Any, *arguments: Any) -> None:
        stages.end("data read, split and hashed")
        begin(self, *arguments)
        stages.end("network and optimizer made")

    def watched_fit(self: Any, count: int, plan: Any, *_: Any) -> Any:
        step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: end_of_step())
        return fit(self, count, plan, step)

    def end_of_step() -> None:
        first = "graph optimised and run once"
        stages.end("second step" if first in stages.seconds else first)
        if "second step" in stages.seconds:
            print(json.dumps({"stages": stages.seconds, "counts": stages.counts}), flush=True)
            os._exit(0)

    Session.__init__, Session._fit = watched, watched_fit


def _watch_step(stages: Stages) -> None:
    import tensorflow as tf

    from keras_proseg.trainers import TrainStep

    step = TrainStep.train_step

    def watched(self: Any, batch: Any) -> Any:
        stages.end("pipeline and fit set up")
        answer = step(self, batch)
        stages.counts["operations"] = len(tf.compat.v1.get_default_graph().get_operations())
        stages.end("step traced")
        return answer

    TrainStep.train_step = watched


def _megabytes_loaded() -> int:
    """Of modules and shared libraries that this process has loaded."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    maps = Path("/proc/self/maps")
    if maps.exists():
        files |= {line.split()[-1] for line in maps.read_text().splitlines() if ".so" in line}
    sizes = [Path(file).stat().st_size for file in files if file and Path(file).is_file()]
    return round(sum(sizes) / 1e6)


if __name__ == "__main__":
    main()
