"""One table, backend by backend: seconds per step, and the losses of equal runs.

    python benchmarks/backends.py [--preset default] [--batch-size N] [--steps 30] [--backends ...]

`--jit-compile` compiles with XLA where that is not the default: TensorFlow's path on a GPU.

`--perturb N` starts run N from weights moved by one part in ten million, about float32's rounding:
the losses of several such runs on one backend show how far rounding alone carries in these steps.

`--slower N` divides the learning rates by N: in such steps rounding is not carried far, and what
the backends compute differently would show.

Every installed backend starts from the same weights (a file written by the first), sees the same
batches of moving discs, and has the same noise: one draw of z's from NumPy, and tau at its mean.
Seconds per step are the median over the last two thirds, by wall clock, 128x128, four raters.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.backends import PACKAGES
from keras_proseg.config import TrainConfig


def main() -> None:
    """Runs each backend in a process of its own and prints the table."""
    options = _options()
    if options.run:
        print(json.dumps(_run(options)))
        return
    installed = [b for b, needs in PACKAGES.items() if all(map(find_spec, needs.values()))]
    installed = [backend for backend in installed if backend in (options.backends or installed)]
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "start.keras")
        print(f"{'backend':12s}{'s/step':>8s}{'10-90 %':>16s}{'first loss':>12s}{'last loss':>12s}")
        for backend in installed:
            command = [sys.executable, __file__, *sys.argv[1:], "--run", weights]
            environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            _print_row(backend, json.loads(done.stdout.splitlines()[-1]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--batch-size", type=int, default=TrainConfig().batch_size)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--backends", nargs="+", choices=list(PACKAGES))
    parser.add_argument("--jit-compile", action="store_true", default=None)
    parser.add_argument("--perturb", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1.0)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def _print_row(backend: str, row: dict[str, Any]) -> None:
    seconds, losses = row["seconds"][len(row["seconds"]) // 3 :], row["losses"]
    low, middle, high = np.percentile(seconds, [10, 50, 90])
    spread = f"{low:.3f} to {high:.3f}"
    print(f"{backend:12s}{middle:8.3f}{spread:>16s}{losses[0]:12.5f}{losses[-1]:12.5f}")


def _run(options: argparse.Namespace) -> dict[str, Any]:
    import keras

    from keras_proseg import bound
    from keras_proseg.distributions import Dirichlet

    model = _model(options, keras)
    settings = model.settings
    grid = 128 // settings.ambiguity_stride
    maps = 4 if settings.ambiguity_per_rater else 1
    shapes = [(options.batch_size, 4)]  # the choice of raters, where not all are taken
    shapes += [(options.batch_size, maps, grid, grid, settings.ambiguity_size)]
    rng = np.random.default_rng(0)
    noise = {len(shape): rng.normal(size=shape).astype("float32") for shape in shapes}

    def shared(shape: Any, key: Any) -> Any:
        return keras.ops.convert_to_tensor(noise[len(shape)])

    def mean(self: Any, num: int, seed: Any) -> Any:
        return keras.ops.repeat(self.mean()[None], num, axis=0)

    bound.standard_normal = shared
    Dirichlet.sample = mean
    clock = _clock(keras)
    discs = _discs(options.batch_size, options.steps, keras)
    model.fit(discs, callbacks=[clock], shuffle=False, verbose=0)
    return {"seconds": clock.seconds, "losses": clock.losses}


def _model(options: argparse.Namespace, keras: Any) -> Any:
    from keras_proseg.config import preset_configs
    from keras_proseg.model import ProSeg
    from keras_proseg.optimizers import make_optimizer

    config, train = preset_configs(options.preset, raters=("a", "b", "c", "d"))
    start = Path(options.run)
    if not start.exists():
        keras.utils.set_random_seed(0)
        ProSeg(config=config).save(start)
    model = keras.saving.load_model(start)
    if options.perturb:
        rng = np.random.default_rng(options.perturb)
        weights = [w * (1 + 1e-7 * rng.choice([-1, 1], w.shape)) for w in model.get_weights()]
        model.set_weights(weights)
    for name in ("learning_rate", "encoder_learning_rate", "preference_learning_rate"):
        train = replace(train, **{name: getattr(train, name) / options.slower})
    chosen = {"jit_compile": True} if options.jit_compile else {}
    model.compile(make_optimizer(train, model.has_trained_encoder), **chosen)
    return model


def _discs(size: int, count: int, keras: Any) -> Any:
    rows, columns = np.mgrid[:128, :128]

    class Discs(keras.utils.PyDataset):
        @property
        def num_batches(self) -> int:
            return count

        def __getitem__(self, step: int) -> dict[str, Any]:
            rng = np.random.default_rng(step)
            centres = rng.uniform(40, 88, (size, 2, 1, 1))
            distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])[..., None]
            image = (distance < 15) + rng.normal(0, 0.3, distance.shape)
            masks = np.stack([distance < radius for radius in (10, 13, 16, 19)], axis=1)
            present = np.ones((size, 4), bool)
            return {"image": image.astype("float32"), "masks": masks, "annotated": present}

    return Discs()


def _clock(keras: Any) -> Any:
    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.sync_state()
            self.model.trackers[0].reset_state()
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.losses.append(float(logs["loss"]))
            self.seconds.append(time.perf_counter() - self.begin)

    return Clock()


if __name__ == "__main__":
    main()
