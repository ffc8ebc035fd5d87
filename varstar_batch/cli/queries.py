"""Commands that ask a catalog: `query`, `cone`, `show`, `diff`."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow as pa
import typer

from varstar_batch.catalog.compare import MOVED, Comparison, Difference, open_comparison
from varstar_batch.catalog.cone import cone_of, cone_schema, cone_tables
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.history import list_runs
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.sql.process import QueryLimits
from varstar_batch.catalog.star_history import history_table, star_history
from varstar_batch.cli.console import print_json, print_table, say
from varstar_batch.cli.options import CatalogArgument, JsonOption, RunOption, takes
from varstar_batch.cli.output import OutputFormat, give_answer, json_ready

FormatOption = Annotated[
    OutputFormat | None, typer.Option("--format", help="[default: table, or what --out's name ends in]")
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", help="File to write: .csv, .json, .parquet, .vot, .fits, .ecsv.")
]
LimitOption = Annotated[int, typer.Option(min=1, help="Most rows of a table on the terminal.")]


BAR_WIDTH = 30
"""Characters of a bar that stands for probability 1."""

BRIEF = ("object_id", "separation", "ra", "dec", "period", "amplitude", "status", "class", "class_prob", "second_class")
"""Columns of a cone that a terminal shows; files and pipes get all."""


@takes(QueryLimits)
def query(
    limits: QueryLimits,
    *,
    catalog: CatalogArgument,
    sql: Annotated[str, typer.Argument(help="One SELECT over the table `catalog`; other runs: catalog_at('RUN').")],
    run: RunOption = None,
    form: FormatOption = None,
    out_file: OutOption = None,
    limit: LimitOption = 100,
) -> None:
    """Answer SQL over CATALOG (DuckDB), read-only and with access to nothing else.

    Example: varstar query CATALOG "SELECT class, count(*) FROM catalog GROUP BY class"
    """
    with open_catalog(catalog, run).open_query(sql, limits=limits) as answer:
        give_answer(answer.schema, answer, form, out_file, limit)


def cone(
    catalog: CatalogArgument,
    ra: Annotated[str, typer.Option(help="Right ascension of the centre: degrees, 05:34:31.9 or 5h34m31.9s.")],
    dec: Annotated[str, typer.Option(help="Declination of the centre: degrees, -22:00:52 or -22d00m52s.")],
    radius: Annotated[str, typer.Option(help="Radius: degrees, 5arcmin or 30arcsec.")],
    run: RunOption = None,
    form: FormatOption = None,
    out_file: OutOption = None,
    limit: LimitOption = 100,
) -> None:
    """Print the objects of CATALOG within a radius of a position; only row groups that can hold any are read."""
    reader = open_catalog(catalog, run)
    tables = cone_tables(reader.run, reader.index, cone_of(ra, dec, radius))
    schema = cone_schema(reader.schema, None)
    if out_file is None and form in {None, OutputFormat.TABLE}:
        tables = (table.select(BRIEF) for table in tables)
        schema = pa.schema([schema.field(name) for name in BRIEF])
    batches = (batch for table in tables for batch in table.to_batches())
    give_answer(schema, batches, form, out_file, limit)


def show(
    catalog: CatalogArgument,
    object_id: Annotated[str, typer.Argument(metavar="ID", help="The star's object_id.")],
    out_file: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one star: its probabilities through all runs of CATALOG; --out writes them, or a page (.html).

    A table has a row for each run; a page has the light curve, too, its periods, its neighbours, and links by position.
    """
    root = open_catalog_root(catalog)
    if out_file is not None and str(out_file).endswith(".html"):
        from varstar_batch.files.location import locate, writable
        from varstar_batch.report.star_page import build_star_page

        page = build_star_page(root, object_id).encode()
        writable(str(out_file), "page", lambda: locate(str(out_file), what="page").write_bytes(page))
        say(str(out_file))
        return
    found = star_history(root, object_id)
    if out_file is not None:
        table = history_table(root, found)
        give_answer(table.schema, table.to_batches(), None, out_file, table.num_rows)
        return
    if as_json:
        print_json([{"run_id": run, "row": row} for run, row in found])
        return
    states = {entry.run_id: entry.state for entry in list_runs(root)}
    for run, row in reversed(found):
        _print_star(f"Run {run} ({states[run]})", row)


def diff(
    catalog: CatalogArgument,
    run_a: Annotated[str, typer.Argument(help="The earlier run.")] = "previous",
    run_b: Annotated[str, typer.Argument(help="The later run.")] = "current",
    out_file: OutOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Print what changed from RUN_A to RUN_B of CATALOG, and why; --out writes every object that changed."""
    a = open_catalog(catalog, run_a)
    with open_comparison(a, a.at(run_b)) as comparison:
        summary = comparison.summary()
        if as_json:
            print_json(_difference_json(summary, comparison, limit))
        else:
            _print_difference(summary)
            _print_changes(comparison, limit)
        if out_file is not None:
            give_answer(comparison.schema, comparison.changes(), None, out_file, limit)


def _print_star(heading: str, row: dict[str, Any] | None) -> None:
    if row is None:
        say(f"{heading}: no such object")
        return
    place = "" if row["ra"] is None or row["dec"] is None else f", ra {row['ra']:.6f} dec {row['dec']:+.6f}"
    say(f"{heading}: object_id {row['object_id']}{place}")
    said = [f"model {row['model_version']}", f"status {row['status']}"]
    said += [f"period {row['period']:.8g} d"] if row["period"] is not None else []
    said += [f"amplitude {row['amplitude']:.3f} mag"] if row["amplitude"] is not None else []
    say("  " + ", ".join([*said, f"{row['n_used']} of {row['n_obs']} observations used"]))
    if row["class"] is None:
        return
    for name, value in row.items():
        if name.startswith("prob_") and value is not None:
            label = name.removeprefix("prob_")
            bar = "█" * round(BAR_WIDTH * value)
            say(f"  {label:<6} {value:.6f}  {bar}{'  <- class' if label == row['class'] else ''}")
    ood = "" if row["ood_score"] is None else f", less familiar than {row['ood_score']:.1%} of held-out training stars"
    say(f"  margin {row['margin']:.4f} before {row['second_class']}, entropy {row['entropy']:.4f} nat{ood}")
    if row.get("parent") is not None:
        # A question to a catalog does not need what it brings with it.
        from varstar_batch.catalog.columns.schema import BETWEEN, PARENT_SETS

        within = [f"parent {row['parent']} {row['parent_prob']:.4f}"]
        within += [f"subclass {row['subclass']} {row['subclass_prob']:.4f}"] if row["subclass"] else []
        sets = [
            f"at {name.rpartition('_')[2]} % {row[name].replace(BETWEEN, ' or ')}" for name in PARENT_SETS if row[name]
        ]
        say("  " + ", ".join(within) + (f"; may be, {', '.join(sets)}" if sets else ""))
    if row.get("period_flag") not in (None, "ok"):
        better = "" if row["best_period"] is None else f", {row['best_period']:.8g} d: then {row['best_class']}"
        say(f"  the survey's period is questioned: {row['period_flag']}{better}")


def _print_difference(difference: Difference) -> None:
    say(f"{difference.run_a} ({difference.rows_a:,} objects) -> {difference.run_b} ({difference.rows_b:,} objects)")
    for line in difference.settings:
        say(f"  {line}")
    if difference.carried:
        say(f"  {difference.carried:,} objects in files that both runs share")
    said = {"class": "changed class", "status": "changed status", "moved": f"same class, moved by more than {MOVED}"}
    changed = [(said.get(name, name), count) for name, count in difference.changed.items()]
    print_table("What happened", ("", "objects"), changed)
    if told := [f"{name} of {count:,}" for name, count in difference.families.items() if count]:
        say(f"Changed, among objects that both runs classified: {' and '.join(told)}")
    if difference.causes:
        print_table("Why", ("cause", "objects"), list(difference.causes.items()))
    labels = sorted({label for pair in difference.matrix for label in pair}, key=lambda name: (name.islower(), name))
    rows = [(old, *(difference.matrix.get((old, new), 0) for new in labels)) for old in labels]
    print_table("From (rows) to (columns)", ("", *labels), rows)


def _print_changes(comparison: Comparison, limit: int) -> None:
    rows = [row for batch in comparison.changes(limit) for row in batch.to_pylist()]
    if not rows:
        return
    cells = [
        (str(row["object_id"]), row["label_a"], row["label_b"], row["class_prob_a"], row["class_prob_b"], row["cause"])
        for row in rows
    ]
    columns = ("object_id", "was", "is", "probability then", "now", "cause")
    print_table(f"The surest {len(rows)} of them (--out FILE writes all)", columns, cells)


def _difference_json(difference: Difference, comparison: Comparison, limit: int) -> dict[str, Any]:
    matrix: dict[str, dict[str, int]] = {}
    for (old, new), count in difference.matrix.items():
        matrix.setdefault(old, {})[new] = count
    changes = [row for batch in comparison.changes(limit) for row in json_ready(batch).to_pylist()]
    return vars(difference) | {"matrix": matrix, "changes": changes}
