"""What float16 and int8 weights cost: metrics, size and time of LiteRT exports of one run.

    python benchmarks/precision.py RUN [--data FILE.npz] [--split val] [--limit 100]

Every precision gets the same cases, tau and noise (S = 16, raters in turn), so differences are the
weights' alone. Dice in points (0 to 100).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SHOWN = ("dice_match", "dice_soft", "dice_rater", "ged")
NUM_SAMPLES = 16


def main() -> None:
    """Exports the run in each precision, scores it and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data", help="Other data than the run's own.")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=100, help="Cases, evenly spaced.")
    options = parser.parse_args()
    from keras_proseg.runs import Run

    run = Run.open(options.run)
    model, cases = run.load_model(), _cases(run, options)
    print(f"{len(cases)} {options.split} cases of {cases.images.shape[1:3]}")
    print("| weights | MB | ms per sample call | " + " | ".join(SHOWN) + " |")
    print("|---|---|---|" + "---|" * len(SHOWN))
    for precision in ("float32", "float16", "int8"):
        size, seconds, scores = _measure(run, model, cases, precision)
        shown = (f"{scores[n]:.4f}" if n == "ged" else f"{100 * scores[n]:.2f}" for n in SHOWN)
        cells = " | ".join(shown)
        print(f"| {precision} | {size:.2f} | {1000 * seconds:.0f} | {cells} |", flush=True)


def _cases(run: Any, options: argparse.Namespace) -> Any:
    from keras_proseg.run_data import cases_of_run

    cases = cases_of_run(run, options.data, options.split)
    return cases.take(np.linspace(0, len(cases) - 1, min(options.limit, len(cases))).astype(int))


def _measure(run: Any, model: Any, cases: Any, precision: str) -> tuple[float, float, Any]:
    from ai_edge_litert.interpreter import Interpreter

    from keras_proseg.config import ExportConfig
    from keras_proseg.export import export_run

    height, width = cases.images.shape[1:3]
    settings = {"format": "litert", "precision": precision, "num_samples": NUM_SAMPLES}
    with tempfile.TemporaryDirectory() as folder:
        config = ExportConfig(**settings, height=height, width=width)
        file = export_run(run.path, Path(folder) / "proseg", config) / "model.tflite"
        interpreter = Interpreter(str(file), num_threads=2)
        scores, seconds = _score(interpreter, model, cases)
        return file.stat().st_size / 1e6, seconds, scores


def _score(interpreter: Any, model: Any, cases: Any) -> tuple[Any, float]:
    from keras_proseg.metrics import structure_metrics, summarise

    sample = interpreter.get_signature_runner("sample")
    rows, taken = [], []
    for k in range(len(cases)):
        given = _latents(sample, model, np.random.default_rng(k))
        given["image"] = cases.images[k : k + 1].astype("float32")
        begin = time.perf_counter()
        samples = sample(**given)["samples"][0]
        taken.append(time.perf_counter() - begin)
        ids = np.arange(NUM_SAMPLES) % len(model.raters)
        means = np.stack([samples[ids == rater].mean(axis=0) for rater in range(len(model.raters))])
        present = np.flatnonzero(cases.annotated[k])
        names = [cases.raters[r] for r in present]
        by_name = means[[model.raters.index(name) for name in names]]
        rows.append(structure_metrics(cases.masks[k][present], samples, by_name, names))
    scores, bins = zip(*rows, strict=True)
    return summarise(scores, cases.patients.tolist(), bins, seed=0), float(np.median(taken))


def _latents(sample: Any, model: Any, rng: np.random.Generator) -> dict[str, Any]:
    """tau by NumPy from each rater's Dirichlet, raters in turn, and standard normal noise."""
    from keras_proseg.export.metadata import latents

    concentration = np.array(latents(model)["tau_concentration"])
    ids = np.arange(NUM_SAMPLES) % len(concentration)
    tau = np.stack([rng.dirichlet(concentration[rater]) for rater in ids])[None]
    shapes = {name: info["shape"] for name, info in sample.get_input_details().items()}
    drawn = {"tau": tau, "noise": rng.normal(size=shapes["noise"])}
    if "rater" in shapes:
        drawn["rater"] = ids[None]
    return {k: v.astype("int32" if k == "rater" else "float32") for k, v in drawn.items()}


if __name__ == "__main__":
    main()
