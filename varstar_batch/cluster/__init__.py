"""Dask: the plan, chunks as futures, the bounded window."""
