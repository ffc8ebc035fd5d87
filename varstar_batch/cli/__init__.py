"""The command line `varstar`."""

from __future__ import annotations

__all__: list[str] = []
