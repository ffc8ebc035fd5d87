"""What a run came to, in a line."""

from __future__ import annotations


def agreement(labels: dict[str, int]) -> str:
    """Return a line about how often the class agrees with the survey's own label."""
    pairs = [(key.split(">"), count) for key, count in labels.items()]
    classified = sum(count for (_, found), count in pairs if found)
    right = sum(count for (label, found), count in pairs if label == found)
    share = f"{right / classified:.1%}" if classified else "none"
    return f"Agreement with the survey's own classes: {share} of {classified:,} classified objects"
