"""From a source to batches: read, verify, split, augment."""
