"""Programs that somebody would write without this project; each prints a line as `naive.py` does."""
