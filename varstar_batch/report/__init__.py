"""One self-contained page about a run: what was found, where, how sure, what changed, how fast."""

from varstar_batch.report.write import report_location, write_report

__all__ = ["report_location", "write_report"]
