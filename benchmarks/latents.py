"""What each latent carries: scores of a run with one latent changed, side by side.

    python benchmarks/latents.py RUN [--data SOURCE] [--cases N]

tau replaced by another rater's: each rater is predicted with the next rater's tau, and all diverse
samples take one rater's tau. z held at its mean: its noise is switched off.
"""

import argparse
from typing import Any

import numpy as np

from keras_proseg.metrics import case_metrics
from keras_proseg.run_data import cases_of_run
from keras_proseg.runs import Run


def main() -> None:
    """Prints one row per probe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--cases", type=int, default=120)
    options = parser.parse_args()
    run = Run.open(options.run)
    cases = cases_of_run(run, options.data, "val")
    rows = np.linspace(0, len(cases) - 1, min(options.cases, len(cases))).astype(int)
    cases, model = cases.take(rows), run.load_model()
    print(f"{len(cases)} validation cases, 16 samples")
    for name, change in PROBES.items():
        print(f"{name:34s} {_score(model, cases, **change)}")


PROBES: dict[str, dict[str, Any]] = {
    "as trained": {},
    "tau of the next rater": {"turn": 1},
    "tau of one rater in all samples": {"one_rater": True},
    "z at its mean": {"scale": 0.0},
}


def _score(
    model: Any, cases: Any, turn: int = 0, one_rater: bool = False, scale: float = 1.0
) -> str:
    found = []
    for image, masks, annotated in zip(cases.images, cases.masks, cases.annotated, strict=True):
        present = np.flatnonzero(annotated)
        rater = int(present[len(found) % len(present)]) if one_rater else None
        samples = model.sample(image, rater, 16, 0, ambiguity_scale=scale)
        others = [int((r + turn) % len(model.raters)) for r in present]
        means = np.stack([model.predict_rater(image, r, ambiguity_scale=scale) for r in others])
        row = case_metrics(masks[present, ..., 0], samples[..., 0], means[..., 0])
        found.append((row["ged"], row["dice_rater"]))
    ged, dice = np.mean(found, axis=0)
    return f"ged {ged:.4f}  dice_rater {dice:.4f}"


if __name__ == "__main__":
    main()
