"""Labelled stars: reading them, dividing them, what their labels and ranges are, stars made from them."""
