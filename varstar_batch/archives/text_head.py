"""What stands above the values of a delimited text: names, units, rules, comments; and what parts its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.survey.units import is_unit

# Within so many lines the values begin, and none of them is longer.
HEAD_LINES = 1000
HEAD_BYTES = 2**16

# Lines with so many are values without names.
_LONG_LINE = 30

_MARKS = ("#", "%", "!", "//", "\\")
_MARK_LETTERS = "#%!;/\\ "
_RULE = re.compile(r"[-=+:|\s,;]*[-=]{2,}[-=+:|\s,;]*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Head:
    """What stands above the values of a text."""

    names: tuple[str, ...]
    """Of the columns; empty where the text names none."""
    separator: str
    """{",", " ", tab, ";", "|"}. Between the fields; blanks include tabs."""
    start: int
    """Where the values begin."""
    width: int
    """Fields of the first line of values, or of the one with the names; 0 where nobody can say."""
    units: tuple[str, ...] = ()
    """Of the columns, where a line below the names says them."""
    decimal: str = "."
    """{".", ","}. In numbers."""


def find_head(content: bytes) -> Head:
    """Find the names of the columns and where the values begin.

    Texts with commas and the like have names in the first line that is no comment, if that does not begin with a
    number; texts with blanks have them, if at all, in the last line above the numbers. Names may stand in a comment;
    below them may be a line of units and one of dashes.

    Raises
    ------
    UnreadableFileError
        It is no text, or empty.
    """
    above: list[str] = []
    for place, end, line in lines_of(content):
        if not line.strip() or _is_comment(line):
            above.append(line)
            continue
        if line.count(";") >= _LONG_LINE:
            return Head((), ";", place, len(_fields(line, ";")))
        separator = _separator(line)
        fields = _fields(line, separator)
        if _is_number(fields[0], separator):
            return _of_values(above, fields, separator, place)
        if separator != " ":
            return _of_names(content, fields, separator, end)
        above.append(line)
    return find_table_head(content)


def find_table_head(content: bytes) -> Head:
    """Find what `find_head` does where the values may begin with texts, as identifiers of a table of objects.

    The names are in the first line that is no comment, or in the comment above it where that line has numbers.

    Raises
    ------
    UnreadableFileError
        As `find_head`.
    """
    above: list[str] = []
    for place, end, line in lines_of(content):
        if line.strip() and not _is_comment(line):
            separator = _separator(line)
            fields = _fields(line, separator)
            if any(_is_number(each, separator) for each in fields):
                return _of_values(above, fields, separator, place)
            return _of_names(content, fields, separator, end)
        above.append(line)
    raise UnreadableFileError("a table", "an empty file" if not content.strip() else "no line of values")


def lines_of(content: bytes, place: int = 0) -> Iterator[tuple[int, int, str]]:
    """Yield where the first lines of a text begin and end, and what they say."""
    if b"\0" in content[:HEAD_BYTES]:
        raise UnreadableFileError("a text or a table in a known format", "binary content")
    place = max(place, 3 if content.startswith(b"\xef\xbb\xbf") else 0)
    for _ in range(HEAD_LINES):
        if place >= len(content):
            return
        end = content.find(b"\n", place, place + HEAD_BYTES)
        if end < 0 and len(content) - place > HEAD_BYTES:
            raise UnreadableFileError("lines of a table", f"a line of more than {HEAD_BYTES} bytes")
        end = len(content) if end < 0 else end
        # Comments may be in any encoding.
        yield place, end + 1, content[place:end].strip(b" \r").decode(errors="replace")
        place = end + 1


def _of_names(content: bytes, names: tuple[str, ...], separator: str, end: int) -> Head:
    """Return the head of a text whose names end here, once it is seen what is below them."""
    below = [(stop, line) for (_, stop, line), _ in zip(lines_of(content, end), range(4), strict=False) if line.strip()]
    units: tuple[str, ...] = ()
    if below and _RULE.fullmatch(below[0][1]):
        end = below.pop(0)[0]
    elif len(below) > 1:
        said, values = (_fields(line, separator) for _, line in below[:2])
        if _are_units(said, values, separator):
            units, end, below = said, below[0][0], below[1:]
            end, below = (below[0][0], below[1:]) if _RULE.fullmatch(below[0][1]) else (end, below)
    first = _fields(below[0][1], separator) if below else ()
    if separator == "\t" and len(first) not in (0, len(names)):
        return Head(tuple(" ".join(names).split()), " ", end, 0)
    is_comma = separator == ";" and any("," in each for each in first) and not any("." in each for each in first)
    return Head(names, separator, end, 0 if separator == " " else len(names), units, "," if is_comma else ".")


def _of_values(above: Sequence[str], fields: Sequence[str], separator: str, place: int) -> Head:
    """Return the head of a text whose first line of values has these fields, below other lines."""
    lines = [_fields(line, separator) for line in above if not _RULE.fullmatch(line.lstrip(_MARK_LETTERS))]
    lines = [line for line in lines if any(line)]
    fitting = [line for line in lines if len(line) == len(fields)]
    has_units = len(fitting) > 1 and all(is_unit(each) and not _is_number(each, separator) for each in fitting[-1])
    units = fitting.pop() if has_units else ()
    # Of a line of another number of words, where blanks part them, an error tells.
    names = fitting[-1] if fitting else lines[-1] if lines and separator == " " else ()
    is_comma = separator == ";" and any("," in each for each in fields)
    return Head(names, separator, place, len(fields), units, "," if is_comma else ".")


def _are_units(said: Sequence[str], values: Sequence[str], separator: str) -> bool:
    """Whether a line above a rule, or above one with numbers, says the units of these."""
    if len(said) != len(values) or any(_is_number(each, separator) for each in said):
        return False
    is_rule = all(_RULE.fullmatch(each) or len(each) == each.count("-") for each in values)
    told = [unit for unit, value in zip(said, values, strict=True) if unit and _is_number(value, separator)]
    return is_rule or (bool(told) and all(is_unit(each) for each in told))


def _is_comment(line: str) -> bool:
    # What begins with a semicolon may be a line whose first field is empty.
    return line.lstrip().startswith(_MARKS) or (line.startswith(";") and line.count(";") == 1)


def _separator(line: str) -> str:
    """Return what parts the fields of a line."""
    parts = line.split(";")
    if len(parts) > 1 and (
        len(parts) > line.count(",") or all(_DECIMAL_COMMA.fullmatch(each.strip()) for each in parts)
    ):
        return ";"
    for each in (",", "|"):
        if each in line:
            return each
    parts = line.split("\t")
    is_mixed = any(
        not each.strip() or _is_number(each.partition(" ")[0], "\t") for each in parts if " " in each.strip()
    )
    return "\t" if len(parts) > 1 and all(each.strip() for each in parts) and not is_mixed else " "


def _fields(line: str, separator: str) -> tuple[str, ...]:
    line = line.lstrip(_MARK_LETTERS + "\t") if _is_comment(line) else line
    if separator == " " or separator not in line:
        return tuple(line.split())
    return tuple(field.strip().strip("\"'") for field in line.split(separator))


def _is_number(text: str, separator: str) -> bool:
    try:
        float(text.replace(",", ".") if separator == ";" else text)
    except ValueError:
        return False
    return True
