"""ADQL as sqlglot reads it: SQL with TOP, functions of geometry, and LOG as the natural logarithm.

Why sqlglot: it is kept up, gives a tree instead of a text, and writes DuckDB's SQL. queryparser-python3, which knows
ADQL's own grammar, writes texts for pgSphere, which is not here, and hands parts of what strangers send to Python's
``eval``. hats-tap is on no package index; DaCHS wants a PostgreSQL beside it.
"""

from __future__ import annotations

from sqlglot import parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import TokenType

GEOMETRY = ("POINT", "CIRCLE", "BOX", "POLYGON", "CONTAINS", "INTERSECTS", "DISTANCE", "COORD1", "COORD2")

MATHEMATICS = {
    *("abs", "ceiling", "ceil", "degrees", "exp", "floor", "ln", "log", "log10", "mod", "pi", "power", "radians"),
    *("rand", "round", "sqrt", "trunc", "truncate", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "cot"),
}

FUNCTIONS = MATHEMATICS | {
    *("count", "sum", "avg", "min", "max", "coalesce", "lower", "upper", "cast", "case", "if", "exists"),
    # Operators, which sqlglot has as functions.
    *("and", "or"),
}
"""What a query may call besides geometry, by the names that sqlglot has for it."""


class ADQL(Dialect):
    """The dialect."""

    NULL_ORDERING = "nulls_are_last"

    class Tokenizer(tokens.Tokenizer):
        """Words."""

        KEYWORDS = {**tokens.Tokenizer.KEYWORDS, "TOP": TokenType.TOP}  # noqa: RUF012 - as sqlglot wants it

    class Parser(parser.Parser):
        """Sentences."""

        LOG_DEFAULTS_TO_LN = True
        # Functions that no library should take for its own.
        FUNCTIONS = {name: build for name, build in parser.Parser.FUNCTIONS.items() if name not in GEOMETRY}  # noqa: RUF012
