"""Runs: the plan, the work on a chunk, the stages, and the record of what happened."""
