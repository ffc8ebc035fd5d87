"""The files of a run on storage: the pointer to the current one, the tables beside the rows, their checks."""
