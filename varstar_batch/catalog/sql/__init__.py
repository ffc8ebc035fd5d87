"""SQL over a catalog: what a person may ask, and the process that answers it."""
