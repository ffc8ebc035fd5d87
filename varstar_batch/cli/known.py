"""Commands about stars whose class a person knows: `validate` them with a catalog, `ask` which to label."""

from __future__ import annotations

from typing import Annotated

import typer

from varstar_batch.catalog.ask import stars_to_label
from varstar_batch.catalog.known_stars.tables import heading, tables_of
from varstar_batch.catalog.known_stars.validate import Matching
from varstar_batch.catalog.known_stars.validate import validate as validate_run
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.cli.console import print_json, print_table, say, warning_line
from varstar_batch.cli.options import CatalogArgument, ConfigOption, JsonOption, RunOption, SetOption, takes
from varstar_batch.cli.output import give_answer, print_left_out
from varstar_batch.errors import InputError
from varstar_batch.runs.config import load_config
from varstar_batch.training.stars.label_table import read_given


@takes(Matching, leave_out=("labels",))
def validate(
    matching: Matching,
    *,
    catalog: CatalogArgument,
    reference: Annotated[
        str, typer.Argument(help="Table of known stars (Parquet, CSV, ECSV, FITS, VOTable): labels, IDs or positions.")
    ],
    run: RunOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out_file: Annotated[
        str | None, typer.Option("--out", help="File for the stars that both have, one a row: .csv, .json, .parquet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold CATALOG against a table of known stars: completeness and purity, with intervals of 95 %.

    By class, parent, magnitude and period; kept beside the run as validations/RUN/validation.json, for its report.

    Example: varstar validate CATALOG vsx.fits --radius 2 --columns class=Type,ra=RAJ2000,dec=DEJ2000
    """
    reader = open_catalog(catalog, run)
    labels = load_config(config, set_ or ()).labels
    validation = validate_run(reader, reference, matching.model_copy(update={"labels": labels}))
    summary = validation.summary
    try:
        kept = str(reader.catalog.write_validation(reader.run_id, summary))
    except (InputError, OSError) as error:
        kept = ""
        warning_line(f"not kept beside the run, where nothing can be written: {error}")
    if as_json:
        print_json(summary)
    else:
        say("\n".join(heading(summary)))
        for table in tables_of(summary):
            print_table(*table)
        print_left_out(validation.lines)
        if kept:
            say(f"Kept in {kept}; `varstar report` shows it")
    if out_file is not None:
        give_answer(validation.stars.schema, validation.stars.to_batches(), None, out_file, 0)


def ask(
    catalog: CatalogArgument,
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many stars.")] = 50,
    labelled: Annotated[
        list[str] | None, typer.Option("--labels", help="Table of labels that are there already; may be repeated.")
    ] = None,
    run: RunOption = None,
    out_file: Annotated[
        str | None, typer.Option("--out", help="Table to fill in: a name that ends in .csv, .ecsv or .parquet.")
    ] = None,
) -> None:
    """Name the stars of CATALOG whose labels would teach a model most, as a table with a column class to fill in.

    Example: varstar ask CATALOG --n 200 --out labels.csv; then varstar train SURVEY --from BUNDLE --labels labels.csv
    """
    known = {name for table in labelled or () for name in read_given(table)}
    stars = stars_to_label(open_catalog(catalog, run), n, known)
    give_answer(stars.schema, stars.to_batches(), None, out_file, n)
