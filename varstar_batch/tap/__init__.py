"""Catalogs for the Virtual Observatory: TAP with ADQL, and Simple Cone Search."""
