"""Catalogs: what a run publishes, and what people read, query, compare and verify."""
