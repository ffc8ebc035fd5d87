"""The columns of a catalog: their meaning, and how files of other tools say it."""
