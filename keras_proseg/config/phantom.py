"""How hard the simulated CT is to read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhantomConfig:
    """How hard the simulated CT is to read; every value scales a mean, each nodule draws around it.

    Attributes:
        contrast: factor on the nodule's contrast to the lung around it.
        doubt: 0 to 1, how far the pixels follow the fraction of readers who marked them; at 0 the
            edge is one hidden compromise of the readers, at 1 disagreement can be read off.
        edge_shift: standard deviation, in fractions of readers, by which the true edge strays from
            that compromise.
        blur_mm: standard deviation of the scanner's point spread, mm.
        noise_hu: standard deviation of the noise in lung, HU (median over scans).
        vessels: mean number of vessels in a crop.
        attached: mean number of vessels that end in the nodule.
        blobs: mean number of nodule-like blobs beside the nodule.
        walls: probability of chest wall in the crop.
    """

    contrast: float = 1.0
    doubt: float = 0.35
    edge_shift: float = 0.16
    blur_mm: float = 0.6
    noise_hu: float = 32.0
    vessels: float = 60.0
    attached: float = 1.3
    blobs: float = 1.6
    walls: float = 0.75
