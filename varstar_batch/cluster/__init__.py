"""Dask and nothing else: clients, the executors of runs and ingests on workers, and what workers load ahead."""
