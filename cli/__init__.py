"""The command line `keras-proseg`; installed as `keras_proseg_cli`."""
