"""The summary of a set of cases, for people to read."""

from typing import Any

import numpy as np

TABLE = (
    "ged", "ged_unbiased", "dice_match", "dice_max", "dice_soft", "dice_rater", "fragments",
    "brier", "ece", "ncc",
)  # fmt: skip


def table(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (name, value, 95 % interval) for people."""
    names = [n for n in TABLE if n in summary]
    names += [n for n in summary if n.startswith("dice_rater/") and isinstance(summary[n], float)]
    rows = []
    for name in names:
        interval = summary.get(f"{name}_ci")
        low, high = interval if isinstance(interval, list) else (np.nan, np.nan)
        rows.append((name, f"{summary[name]:.3f}", f"{low:.3f} to {high:.3f}"))
    return rows
