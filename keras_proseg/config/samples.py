"""How many samples are drawn of an image where nobody says."""

NUM_SAMPLES = 16  # to look at, to export, and in the table at the end of a training
SCORED_SAMPLES = 50  # to evaluate with, as the field does
