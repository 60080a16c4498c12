"""How many images are worked at once, so that memory stays bounded whatever their size."""

SAMPLE_VALUES = 2**25  # probabilities that are held at once: 128 MB


def images_at_once(num_samples: int, height: int, width: int, num_classes: int) -> int:
    """So many images' samples are held at once; 1 where one alone has more than the bound."""
    return max(1, SAMPLE_VALUES // (num_samples * height * width * num_classes))
