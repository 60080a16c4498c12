"""What the readers' ratings say of how a nodule looks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SOFT_TISSUE = 30.0  # HU
TISSUE_BY_TEXTURE = (-600.0, -500.0, -320.0, -110.0, SOFT_TISSUE)  # ground glass ... solid, HU
NOT_CALCIFIED, CALCIFIED_THROUGHOUT, CALCIFIED_CENTRE = 6, 3, 5


@dataclass(frozen=True)
class Character:
    """What the readers' ratings say of a nodule, averaged over readers.

    Attributes:
        contrast: 0 to 1, of the difference between tissue and lung (subtlety 1 to 5).
        tissue: HU (texture: ground glass to solid).
        softness: 0 sharp to 1 poorly defined (margin).
        calcified: fraction of readers who saw calcium.
        pattern: calcification rating of those most readers agree on, 6 for none.
        structure: internalStructure rating most readers agree on, 1 for soft tissue.
    """

    contrast: float
    tissue: float
    softness: float
    calcified: float
    pattern: int
    structure: int

    @classmethod
    def of(cls, ratings: Sequence[dict[str, int]]) -> "Character":
        """The character that R readers' `ratings` (names as in pylidc) give a nodule."""
        mean = {name: float(np.mean([r[name] for r in ratings])) for name in ratings[0]}
        patterns = [r["calcification"] for r in ratings if r["calcification"] != NOT_CALCIFIED]
        return cls(
            contrast=0.4 + 0.12 * mean["subtlety"],
            tissue=float(np.interp(mean["texture"], range(1, 6), TISSUE_BY_TEXTURE)),
            softness=(5 - mean["margin"]) / 4,
            calcified=len(patterns) / len(ratings),
            pattern=_most(patterns) if patterns else NOT_CALCIFIED,
            structure=_most([r["internalStructure"] for r in ratings]),
        )


def _most(values: list[int]) -> int:
    return min(Counter(values).items(), key=lambda item: (-item[1], item[0]))[0]
