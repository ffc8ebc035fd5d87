"""Print the requirements of the package and of the extras named as arguments, one per line, from pyproject.toml."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]


def of_extras(names: list[str]) -> Iterator[str]:
    """Yield the requirements of extras, where one names others those of these."""
    for name in names:
        for line in project["optional-dependencies"][name]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", line)
            yield from of_extras(own[1].split(",")) if own else [line]


print(*project["dependencies"], *of_extras(sys.argv[1:]), sep="\n")
