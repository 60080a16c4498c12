"""How many images are worked at once, and what is said where memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

from keras_proseg.errors import ProSegError

SAMPLE_VALUES = 2**25  # probabilities that are held at once: 128 MB
# What TensorFlow, JAX, PyTorch and NumPy say, each in errors of its own.
LACKING = (
    "MemoryError", "ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory",
    "can't allocate memory",
)  # fmt: skip


def images_at_once(num_samples: int, height: int, width: int, num_classes: int) -> int:
    """So many images' samples are held at once; 1 where one alone has more than the bound."""
    return max(1, SAMPLE_VALUES // (num_samples * height * width * num_classes))


@contextmanager
def steps_in_memory() -> Iterator[None]:
    """Says in one line that a step does not fit in memory.

    Raises:
        ProSegError: instead of the backend's own error.
    """
    try:
        yield
    except ProSegError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if not any(words in said for words in LACKING):
            raise
        text = "A step must fit in memory: lower `batch_size`, or the size of the images."
        raise ProSegError(f"{text} Received: not enough memory") from error
