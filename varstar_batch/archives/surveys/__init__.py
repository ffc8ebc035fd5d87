"""The files of one survey's archive each: their columns, time system, bands, and what in them is no measurement."""
