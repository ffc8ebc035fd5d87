"""Reclassify the variable stars of whole sky surveys."""

from varstar_batch._version import __version__

__all__ = ["__version__"]
