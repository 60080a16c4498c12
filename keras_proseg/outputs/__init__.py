"""Masks and samples as files, each of the kind of what was read."""
