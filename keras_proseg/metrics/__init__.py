"""Metrics of sampled segmentations against several annotations, in NumPy and SciPy alone.

`case_metrics` measures one case, `structure_metrics` one case of K structures, `summarise` a set of
cases. `overlap` holds the rule for empty masks, `diversity` and `calibration` the definitions.
"""

from keras_proseg.metrics.aggregate import structure_metrics, summarise
from keras_proseg.metrics.case import case_metrics

__all__ = ["case_metrics", "structure_metrics", "summarise"]
