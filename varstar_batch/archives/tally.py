"""What was met in the files of an archive: a balance of files and of observations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.errors import one_line

# Characters of a file's content in a line about it.
_SHOWN = 300


@dataclass(frozen=True)
class Rejected:
    """A file that was set aside, and why, in one line."""

    file: str
    error: str

    @classmethod
    def make(cls, file: str, error: UnreadableFileError) -> Rejected:
        """Say in one line what was expected and what was there."""
        got = error.got if len(error.got) <= _SHOWN else f"{error.got[:_SHOWN]}..."
        return cls(file, one_line(f"expected {error.expected}, got {got}"))


COUNTED = ("left_out", "notes", "bands", "unknown_cameras", "formats")
"""Counts of a tally by name."""


@dataclass
class Tally:
    """Everything that was met: files = read + rejected, observations = kept + left out."""

    files: int = 0
    observations: int = 0
    """Met; observations only of the files that were read."""
    rejected: list[Rejected] = field(default_factory=list)
    kept: int = 0
    """Observations that go on."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Observations that do not, by the reason."""
    notes: Counter[str] = field(default_factory=Counter)
    """Observations about which something was assumed, by what it is."""
    bands: Counter[str] = field(default_factory=Counter)
    """Observations that are good by the archive's flags, by band ("unknown" where nothing says one)."""
    unknown_cameras: Counter[str] = field(default_factory=Counter)
    """Observations whose band nobody knows, by camera."""
    formats: Counter[str] = field(default_factory=Counter)
    """Files by format."""
    time_systems: set[str] = field(default_factory=set)
    object_ids: dict[str, None] = field(default_factory=dict)
    """All that were met, also of files without observations."""
    nameless: int = 0
    """Rows without an identifier whose arrays are null or empty."""
    repeated: set[str] = field(default_factory=set)
    """Those that are in several files."""
    positions: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Right ascension and declination [deg] by object_id."""
    of_objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the files say of their objects, such as their `period`, by object_id."""
    has_cameras: bool = False
    """Whether any observation names its camera."""

    def add(self, other: Tally) -> None:
        """Add what was met elsewhere, after what is counted here."""
        self.files += other.files
        self.observations += other.observations
        self.rejected += other.rejected
        self.kept += other.kept
        self.nameless += other.nameless
        for name in COUNTED:
            getattr(self, name).update(getattr(other, name))
        self.time_systems |= other.time_systems
        self.repeated |= other.repeated | (self.object_ids.keys() & other.object_ids.keys())
        self.object_ids |= other.object_ids
        self.positions |= other.positions
        self.add_values(other.of_objects)
        self.has_cameras |= other.has_cameras

    def add_values(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what files say of objects."""
        for role, said in values.items():
            self.of_objects.setdefault(role, {}).update(said)

    def to_json(self) -> str:
        """Return all of it as a text."""
        rejected = [asdict(one) for one in self.rejected]
        listed = {"rejected": rejected, "time_systems": sorted(self.time_systems), "object_ids": list(self.object_ids)}
        listed["repeated"] = sorted(self.repeated)
        return json.dumps(vars(self) | listed)

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Return what `to_json` has written."""
        said = json.loads(text)
        said["rejected"] = [Rejected(**one) for one in said["rejected"]]
        for name in COUNTED:
            said[name] = Counter(said[name])
        said["time_systems"] = set(said["time_systems"])
        said["repeated"] = set(said["repeated"])
        said["object_ids"] = dict.fromkeys(said["object_ids"])
        said["positions"] = {name: (ra, dec) for name, (ra, dec) in said["positions"].items()}
        return cls(**said)
