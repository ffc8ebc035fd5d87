"""The compiled kernel: one light curve after the other, from raw observations to a curve of phase."""
