"""The six classes of the paper (arXiv:2508.11964, section 2), in the order of every probability vector."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ("CEP", "DSCUT", "ECL", "M", "RR", "SR")
"""Cepheids, delta Scuti, eclipsing binaries, Miras, RR Lyrae, semi-regulars."""
