"""One table of speed and memory: training, sampling, evaluation, start-up.

    python benchmarks/speed.py [PART ...]

Each part runs in a process of its own: median, 10 to 90 % range, and peak resident memory of that
process by the operating system. `ratio` compares with the released PyTorch implementation, measured
on two cores that gave 194 GFLOP/s in a float32 matrix product and scaled by what this machine gives
in the same run. Data: 1,500 simulated crops of 128x128 with four masks, as an npz.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE_GFLOPS = 194.0
PARTS: dict[str, tuple[str, str, float | None]] = {
    # part: (what one unit is, unit, seconds of the reference for it)
    "train": ("training, an image", "ms", 2.15 / 16),
    "train_bfloat16": ("the same in mixed_bfloat16", "ms", 2.15 / 16),
    "train_published": ("training, published preset, an image", "ms", 2.15 / 16),
    "sample": ("52 samples of one image", "ms", 0.40),
    "sample_shipped": ("the same by the shipped lidc", "ms", 0.40),
    "raters": ("a draw for each of 4 raters, 16 images", "ms", 0.62),
    "sample_512": ("16 samples of one 512x512 image", "ms", None),
    "evaluate": ("every metric, 52 samples and 4 masks", "ms", 1.03),
    "help": ("keras-proseg --help", "ms", None),
    "first_step": ("command to end of first training step", "ms", None),
}


def main() -> None:
    """Runs the parts named on the command line (all by default) and prints the table."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_child(sys.argv[2], sys.argv[3])))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_discs(Path(folder) / "discs.npz")
        print(
            f"{'what':42s}{'median':>10s}{'10 to 90 %':>18s}{'ratio':>8s}{'GB':>6s}{'GFLOP/s':>9s}"
        )
        for part in sys.argv[1:] or PARTS:
            before = gflops()
            command = [sys.executable, __file__, "--child", part, folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            answer = json.loads(done.stdout.splitlines()[-1])
            _print_row(part, answer, (before + gflops()) / 2)


def _print_row(part: str, answer: dict[str, Any], gflops: float) -> None:
    what, unit, reference = PARTS[part]
    low, middle, high = 1e3 * np.percentile(answer["seconds"], [10, 50, 90])
    scaled = reference and 1e3 * reference * REFERENCE_GFLOPS / gflops
    ratio = f"{scaled / middle:.1f}" if scaled else ""
    spread = f"{low:.1f} to {high:.1f}"
    print(
        f"{what:42s}{middle:7.1f} {unit}{spread:>18s}{ratio:>8s}"
        f"{answer['gigabytes']:6.2f}{gflops:9.0f}"
    )


def _child(part: str, folder: str) -> dict[str, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    measure = {"help": _help, "first_step": _first_step, "evaluate": _evaluate}
    if part.startswith("train"):
        seconds = _train(part, Path(folder))
    elif part in measure:
        seconds = measure[part](Path(folder))
    else:
        seconds = _sample(part)
    who = resource.RUSAGE_CHILDREN if part in ("help", "first_step") else resource.RUSAGE_SELF
    return {"seconds": seconds, "gigabytes": resource.getrusage(who).ru_maxrss / 2**20}


def _train(part: str, folder: Path) -> list[float]:
    """Seconds of an image in a real run, input pipeline included, after steps that warm up."""
    import keras_proseg
    from keras_proseg.config import preset_configs
    from keras_proseg.optimizers import WarmupCosine

    ends: list[float] = []
    WarmupCosine.on_train_batch_end = lambda *_, **__: ends.append(time.perf_counter())
    published = part == "train_published"
    settings: dict[str, Any] = {"preset": "published"} if published else {}
    settings["precision"] = "mixed_bfloat16" if part == "train_bfloat16" else "float32"
    size = preset_configs(settings.get("preset", "default"))[1].batch_size
    steps = 14 if published else 120
    keras_proseg.train(
        str(folder / "discs.npz"), folder / part, log=lambda _: None, validations=1,
        steps=steps, num_samples=4, val_samples=4, **settings,
    )  # fmt: skip
    return [float(s) / size for s in np.diff(ends)[4 if published else 20 :]]


def _sample(part: str) -> list[float]:
    from keras_proseg.config import preset_configs
    from keras_proseg.model import ProSeg

    shipped = part == "sample_shipped"
    own = preset_configs("default", raters=list("abcd"))[0]  # as `train` has it
    model = ProSeg.from_pretrained("lidc") if shipped else ProSeg(config=own)
    rng = np.random.default_rng(0)
    size = 512 if part == "sample_512" else 128
    images = rng.normal(100, 40, (16 if part == "raters" else 1, size, size, 1)).astype("float32")
    count = {"raters": 4, "sample_512": 16}.get(part, 52)
    return repeat(lambda seed: model.sample(images, None, count, seed), 40)


def _evaluate(folder: Path) -> list[float]:
    from metrics import make_case

    from keras_proseg.metrics import structure_metrics

    masks, samples = (a[..., None] for a in make_case())
    raters = list("abcd")
    return repeat(lambda _: structure_metrics(masks, samples, samples[:4], raters), 40)


def _help(folder: Path) -> list[float]:
    command = [str(Path(sys.executable).with_name("keras-proseg")), "--help"]
    return repeat(lambda _: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), 20)


def _first_step(folder: Path) -> list[float]:
    script = (
        "import os, sys; from keras_proseg_cli.main import main\n"
        "from keras_proseg.optimizers import WarmupCosine\n"
        "WarmupCosine.on_train_batch_end = lambda *_, **__: os._exit(0)\n"
        "main(sys.argv[1:])"
    )

    def run(seed: int) -> None:
        out = folder / f"first{seed}"
        command = [sys.executable, "-c", script, "train", "--data", str(folder / "discs.npz")]
        subprocess.run([*command, "--out", str(out)], capture_output=True, check=True)

    return repeat(run, 4)


def repeat(function: Callable[[int], Any], count: int) -> list[float]:
    """Seconds of `count` calls, after two that warm up."""
    seconds = []
    for k in range(count + 2):
        start = time.perf_counter()
        function(k)
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def gflops() -> float:
    """Float32 matrix product of 4096 x 4096, on all cores."""
    matrix = np.random.default_rng(0).random((4096, 4096), dtype=np.float32)
    return 2 * 4096**3 / min(repeat(lambda _: matrix @ matrix, 3)) / 1e9


def write_discs(path: Path) -> None:
    """Writes the data of all parts: 1,500 crops to train on and 16 to validate."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    centres, radii = rng.uniform(40, 88, (1516, 2, 1, 1)), rng.uniform(5, 16, (1516, 1, 1, 1))
    distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])[:, None]
    images = (distance[:, 0] < radii[:, 0]) + rng.normal(0, 0.3, (1516, 128, 128))
    masks = distance < radii * np.array([0.8, 0.9, 1.1, 1.2])[:, None, None]
    split = np.array(["train"] * 1500 + ["val"] * 16)
    images = np.clip(images * 80 + 90, 0, 255).astype(np.uint8)[..., None]
    np.savez(path, images=images, masks=masks.astype(np.uint8), split=split)


if __name__ == "__main__":
    main()
