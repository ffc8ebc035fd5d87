"""Training: labelled light curves in, a measured model bundle out."""
