"""Writes the pages of reference that follow from the code: columns of a catalog, configuration, commands, Python."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def write_reference(folder: Path) -> None:
    """Write every page into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "columns": columns_page(),
        "configuration": configuration_page(),
        "commands": commands_page(),
        "python": python_page(),
    }
    for name, text in pages.items():
        file = folder / f"{name}.md"
        # A page that did not change keeps its time, by which Sphinx knows what to do anew.
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def columns_page() -> str:
    """Return the columns of a catalog, from its schema."""
    from varstar_batch.catalog.columns.schema import catalog_schema
    from varstar_batch.light_curves.status import STATUS_LABELS
    from varstar_batch.model.bundle_files import read_bundle

    classes = read_bundle(None).contract.classes
    rows = []
    for field in catalog_schema(pa.string(), classes, healpix=True):
        meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        kind = "as in the survey" if field.name == "object_id" else str(field.type)
        rows.append((f"`{field.name}`", kind, meta.get("unit", ""), meta.get("ucd", ""), meta.get("description", "")))
    statuses = ", ".join(f"`{name}`" for name in STATUS_LABELS)
    return (
        "# Columns of a catalog\n\n"
        "One row for every object of the survey. This table is made from the schema itself; the same units, UCDs and\n"
        "descriptions travel in every Parquet file. `_healpix_29` is there where the survey is a HATS catalog. The\n"
        "classes are the bundle's: these are those of the one that ships.\n\n"
        + _table(("column", "type", "unit", "UCD", "says"), rows)
        + f"\n`status` is one of {statuses}.\n"
    )


def configuration_page() -> str:
    """Return every key of the configuration, from the models that check it."""
    from varstar_batch.runs.config import RunConfig

    sections = list(_sections(RunConfig, ""))
    text = [
        "# Configuration\n",
        "A TOML file (`--config FILE`) or single keys (`--set survey.period=P`); Prefect's form has the same. Every",
        "key, from the models that check them:\n",
    ]
    for title, fields in sections:
        text += [
            f"## `[{title}]`\n" if title else "## At the top\n",
            _table(("key", "type", "default", "says"), fields),
        ]
    return "\n".join(text)


def _sections(model: type[BaseModel], title: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    rows, below = [], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            below.append((kind, f"{title}.{name}".lstrip(".")))
            continue
        rows.append((f"`{field.alias or name}`", _kind(kind), _default(field), field.description or ""))
    yield title, rows
    for kind, name in below:
        yield from _sections(kind, name)


def _kind(kind: Any) -> str:
    """Return a type as people write it."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if origin is typing.Annotated:
        return _kind(typing.get_args(kind)[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_kind(each) for each in typing.get_args(kind) if each is not type(None))
    if origin is dict:
        return "table"
    if origin in {list, tuple}:
        return "list"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is None or field.is_required() else f"`{value!r}`"


def commands_page() -> str:
    """Return the help of every command."""
    import typer

    from varstar_batch.cli.app import app, load_command, with_commands

    group = with_commands(app)
    text = [
        "# Commands\n",
        "As `varstar COMMAND --help` says it. Exit codes: 0 done, 1 done with failed partitions, 2 bad usage or",
    ]
    text.append("input, 3 refused or held, 130 interrupted.\n")
    context = typer.Context(group, info_name="varstar")
    for name in group.list_commands(context):
        command = load_command(name)
        inner = typer.Context(command, info_name=name, parent=context)
        usage = " ".join(["varstar", name, *(piece.strip() for piece in command.collect_usage_pieces(inner))])
        text += [f"## varstar {name}\n", inspect.cleandoc(command.help or ""), f"\n```text\n{usage}\n```\n"]
        rows = []
        for parameter in command.params:
            record = getattr(parameter, "help", None) or ""
            names = ", ".join(f"`{each}`" for each in [*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "argument":
                names = f"`{(parameter.metavar or parameter.name or '').upper()}`"
            kind = typing.get_origin(parameter.type_descriptor.annotation)
            if kind is typing.Literal:
                choices = typing.get_args(parameter.type_descriptor.annotation)
                record += " Choices: " + ", ".join(f"`{each}`" for each in choices) + "."
            rows.append((names, re.sub(r"\s+", " ", record)))
        text.append(_table(("argument or option", "says"), rows))
    return "\n".join(text)


def python_page() -> str:
    """Return what `import varstar_batch` gives, documented by its docstrings."""
    from varstar_batch import notebook

    names = notebook.__all__
    functions = [name for name in names if not inspect.isclass(getattr(notebook, name))]
    classes = [name for name in names if name not in functions]
    text = [
        "# Python\n",
        "`import varstar_batch as vb` loads nothing heavy; each name below is loaded when it is first used.\n",
        "```{eval-rst}",
    ]
    for name in functions:
        thing = getattr(notebook, name)
        text.append(f".. autofunction:: {thing.__module__}.{thing.__qualname__}\n" if inspect.isfunction(thing) else "")
    for name in classes:
        thing = getattr(notebook, name)
        text.append(f".. autoclass:: {thing.__module__}.{thing.__qualname__}\n")
    objects = ("columns.rows.Rows", "reader.CatalogReader")
    text += [f".. autoclass:: varstar_batch.catalog.{name}\n   :members:\n" for name in objects]
    text.append("```\n")
    return "\n".join(text)
