"""The six classes of the paper (arXiv:2508.11964, section 2), that the shipped bundle answers with.

Only simulation and training without a word about classes use them: a bundle's contract names its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CLASSES: tuple[str, ...] = ("CEP", "DSCUT", "ECL", "M", "RR", "SR")
"""Cepheids, delta Scuti, eclipsing binaries, Miras, RR Lyrae, semi-regulars."""

MIRA, SEMIREGULAR = "M", "SR"
"""The two that an amplitude divides."""

PARENTS: Mapping[str, str] = MappingProxyType({MIRA: "LPV", SEMIREGULAR: "LPV"})
"""Classes that a definition divides, by what they are together: long-period variables. Others are their own parents."""
