"""Who the raters of a data set are: measured, drawn, and reported."""
