"""One module per kind of file that cases or images are read from."""
