"""From ADQL to the SQL of the sandbox: tables by their keys, geometry as arithmetic, and which cones are asked for.

What comes out is checked again where it runs (`catalog.sql.rules`): this module says in ADQL's words what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

from varstar_batch.catalog.cone import Cone
from varstar_batch.errors import InputError, one_line
from varstar_batch.tap.dialect import ADQL, FUNCTIONS, GEOMETRY
from varstar_batch.tap.geometry import Box, Circle, Point, Polygon, Shape, cone, contains, distance

LONGEST = 20_000
"""Characters of a query: to read that many takes this process half a second."""

_NO_ADQL = (
    *(exp.Into, exp.Lateral, exp.Unnest, exp.Values, exp.Pivot, exp.TableSample, exp.Parameter, exp.Placeholder),
    *(exp.Lambda, exp.Window, exp.Bracket, exp.Struct, exp.Array, exp.Hint, exp.Command),
)


@dataclass
class Translation:
    """A query in the words of DuckDB."""

    sql: str = ""
    tables: dict[str, Cone | None] = field(default_factory=dict)
    """The keys of the tables that it reads, and the cone that holds all that is wanted of one, where that is known."""
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of the answer, those that are columns of tables, by name: key of the table, and column."""
    stars: list[str] = field(default_factory=list)
    """Keys of the tables all of whose columns are asked for."""


def translate(adql: str, tables: Mapping[str, str], limit: int) -> Translation:
    """Return what the sandbox is to be asked.

    Parameters
    ----------
    adql : str
        A query.
    tables : mapping
        Key by name, in lower case and with its schema.
    limit : int
        Most rows of the answer, 0 or more.

    Raises
    ------
    InputError
        It is no ADQL, names a table or function that is not there, or a geometry that is not understood.
    """
    if len(adql) > LONGEST:
        raise _refused(f"at most {LONGEST:,} characters", f"{len(adql):,}", "ask a shorter question")
    try:
        statements = sqlglot.parse(adql, dialect=ADQL)
        if len(statements) != 1 or not isinstance(statements[0], exp.Query) or isinstance(statements[0], exp.Subquery):
            raise _refused("one SELECT", one_line(adql)[:60] or "nothing", "see the examples of the service")
        return _Translator(statements[0], tables).translate(limit)
    except (sqlglot.errors.SqlglotError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _refused("ADQL", (lines or [type(error).__name__])[0][:200], "see the examples of the service") from None
    except RecursionError:
        raise _refused("a query nested less deeply", "parentheses in parentheses", "ask more simply") from None


class _Translator:
    def __init__(self, tree: exp.Query, tables: Mapping[str, str]) -> None:
        self._tree = tree
        self._tables = tables
        self._aliases: dict[int, dict[str, str]] = {}
        """By the identity of a SELECT: key by alias of its tables."""
        self._found = Translation()
        self._reads: list[str] = []

    def translate(self, limit: int) -> Translation:
        self._check()
        for table in list(self._tree.find_all(exp.Table)):
            self._resolve(table)
        for column in self._tree.find_all(exp.Column):
            column.set("db", None)
            column.set("catalog", None)
        self._find_columns()
        cones: dict[str, Cone] = {}
        for select in self._tree.find_all(exp.Select):
            cones |= self._narrow(select)
        self._rewrite()
        self._limit(limit)
        # A table that is there twice may be wanted whole the second time.
        self._found.tables = {key: cones.get(key) if self._reads.count(key) == 1 else None for key in self._reads}
        self._found.sql = self._tree.sql(dialect="duckdb", comments=False)
        return self._found

    def _check(self) -> None:
        for node in self._tree.walk():
            if isinstance(node, _NO_ADQL) or (isinstance(node, exp.With) and node.args.get("recursive")):
                raise _refused("ADQL", type(node).__name__.upper(), "ask for rows of the tables, with a SELECT")
            if isinstance(node, exp.Func):
                name = node.name if isinstance(node, exp.Anonymous) else node.sql_names()[0]
                if name.lower() not in FUNCTIONS and name.upper() not in GEOMETRY:
                    raise _refused(
                        "a function of ADQL", f"{name}()", "the service's capabilities list those of geometry"
                    )

    def _resolve(self, table: exp.Table) -> None:
        if not isinstance(table.this, exp.Identifier):
            raise _refused("the name of a table", table.sql(dialect=ADQL)[:60], "TAP_SCHEMA.tables lists them")
        parts = [part.name.lower() for part in table.parts]
        if len(parts) == 1 and any(cte.alias.lower() == parts[0] for cte in self._tree.find_all(exp.CTE)):
            return
        names = (
            [".".join(parts)] if len(parts) > 1 else [name for name in self._tables if name.endswith(f".{parts[0]}")]
        )
        keys = {self._tables[name] for name in names if name in self._tables}
        if len(keys) != 1:
            raise _refused("a table that is there", ".".join(parts), "TAP_SCHEMA.tables lists them")
        (key,) = keys
        self._reads.append(key)
        alias = table.alias or parts[-1]
        select = table.find_ancestor(exp.Select)
        self._aliases.setdefault(id(select), {})[alias.lower()] = key
        call = exp.Anonymous(this="catalog_at", expressions=[exp.Literal.string(key)])
        table.set("db", None)
        table.set("catalog", None)
        table.set("this", call)
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))

    def _find_columns(self) -> None:
        select: exp.Expr = self._tree
        while isinstance(select, exp.SetOperation):
            select = select.left
        if not isinstance(select, exp.Select):
            return
        aliases = self._aliases.get(id(select), {})
        for each in select.expressions:
            inner = each.this if isinstance(each, exp.Alias) else each
            if isinstance(inner, exp.Star):
                self._found.stars += aliases.values()
            elif isinstance(inner, exp.Column):
                owners = [aliases[inner.table.lower()]] if inner.table.lower() in aliases else list(aliases.values())
                if isinstance(inner.this, exp.Star):
                    self._found.stars += owners
                elif len(owners) == 1:
                    self._found.columns[each.alias_or_name.lower()] = (owners[0], inner.name.lower())

    def _narrow(self, select: exp.Select) -> dict[str, Cone]:
        """Add to a WHERE what lets the reader skip row groups, and return the cones by key of the table."""
        where = select.args.get("where")
        if where is None:
            return {}
        found: dict[str, Cone] = {}
        for condition in list(where.this.flatten()) if isinstance(where.this, exp.And) else [where.this]:
            wanted = self._cone_of(condition)
            if wanted is None:
                continue
            (ra, dec), around = wanted
            aliases = self._aliases.get(id(select), {})
            key = aliases.get(ra.table.lower()) if ra.table else next(iter(aliases.values()), None)
            if key is None or (not ra.table and len(select.args.get("joins") or [])) or key in found:
                continue
            if (ra.name.lower(), dec.name.lower(), ra.table) != ("ra", "dec", dec.table):
                continue
            found[key] = around
            low, high = around.dec - around.radius - 1e-6, around.dec + around.radius + 1e-6
            select.where(f"{dec.sql(dialect='duckdb')} BETWEEN {low!r} AND {high!r}", dialect="duckdb", copy=False)
        return found

    def _cone_of(self, condition: exp.Expr | None) -> tuple[tuple[exp.Column, exp.Column], Cone] | None:
        """Return the columns of a position, and a cone in which it lies if a condition holds, where that is known."""
        position: list[exp.Expr] = []
        around: Cone | None = None
        if isinstance(condition, exp.EQ):
            sides = [condition.left.unnest(), condition.right.unnest()]
            call = next((side for side in sides if _is_call(side, "CONTAINS", "INTERSECTS")), None)
            if call is None or "1" not in {side.name for side in sides if isinstance(side, exp.Literal)}:
                return None
            point, region = _arguments(call)[:2]
            if not _is_call(point, "POINT"):
                return None
            shape = self._shape(region)
            numbers = [_number(each) for each in _circle_arguments(region)] if isinstance(shape, Circle) else []
            position, around = _position(point), cone(shape, numbers)
        elif isinstance(condition, exp.LT | exp.LTE) and _is_call(condition.left, "DISTANCE"):
            position, centre = self._two_points(condition.left)
            if _number(position[0]) is not None:
                position, centre = centre, position
            numbers = [*map(_number, centre), _number(condition.right)]
            around = cone(Circle(Point("", ""), ""), numbers)
        ra, dec = position or (None, None)
        if around is None or not isinstance(ra, exp.Column) or not isinstance(dec, exp.Column):
            return None
        return (ra, dec), around

    def _rewrite(self) -> None:
        """Turn the calls of geometry into arithmetic."""
        for equation in list(self._tree.find_all(exp.EQ, exp.NEQ)):
            node: exp.Binary = equation
            sides = [node.left.unnest(), node.right.unnest()]
            call = next((side for side in sides if _is_call(side, "CONTAINS", "INTERSECTS")), None)
            number = next((_number(side) for side in sides if side is not call), None)
            if call is None or number not in {0.0, 1.0}:
                continue
            inside = exp.Paren(this=self._condition(call))
            is_wanted = (number == 1.0) == isinstance(node, exp.EQ)
            node.replace(inside if is_wanted else exp.Not(this=inside))
        for call in list(self._tree.find_all(exp.Anonymous)):
            name = str(call.this).upper()
            if name in {"CONTAINS", "INTERSECTS"}:
                case = exp.Case().when(self._condition(call), "1").else_("0")
                call.replace(exp.Paren(this=case))
            elif name == "DISTANCE":
                (a, b) = self._two_points(call)
                call.replace(_parsed(distance(_point(a), _point(b))))
            elif name in {"COORD1", "COORD2"}:
                (point,) = _arguments(call)
                if not _is_call(point, "POINT"):
                    raise _geometry(f"{name}(POINT(...))", call)
                call.replace(_position(point)[int(name[-1]) - 1].copy())
        left = next((node for node in self._tree.find_all(exp.Anonymous) if str(node.this).upper() in GEOMETRY), None)
        if left is not None:
            raise _geometry("points and regions inside of CONTAINS, INTERSECTS or DISTANCE", left)

    def _condition(self, call: exp.Expr) -> exp.Expr:
        arguments = _arguments(call)
        if len(arguments) != 2:
            raise _geometry("two arguments", call)
        first, second = arguments
        intersects = _is_call(call, "INTERSECTS")
        if intersects and _is_call(second, "POINT"):
            first, second = second, first
        if _is_call(first, "POINT"):
            return _parsed(contains(self._shape(second), _point(_position(first))))
        a, b = self._shape(first), self._shape(second)
        if not isinstance(a, Circle) or not isinstance(b, Circle):
            raise _geometry("a POINT and a region, or two CIRCLEs", call)
        away = distance(a.centre, b.centre)
        touching = f"{away} <= ({a.radius}) + ({b.radius})" if intersects else f"{away} + ({a.radius}) <= ({b.radius})"
        return _parsed(touching)

    def _shape(self, node: exp.Expr) -> Shape:
        if _is_call(node, "CIRCLE"):
            ra, dec, radius = (_sql(each) for each in _circle_arguments(node))
            return Circle(Point(ra, dec), radius)
        arguments = _flat(node)
        numbers = [_number(each) for each in arguments]
        if _is_call(node, "BOX") and len(numbers) == 4 and None not in numbers:
            return Box(*(float(number or 0.0) for number in numbers))
        if _is_call(node, "POLYGON") and len(numbers) >= 6 and len(numbers) % 2 == 0 and None not in numbers:
            values = [float(number or 0.0) for number in numbers]
            return Polygon(tuple(zip(values[::2], values[1::2], strict=True)))
        raise _geometry("CIRCLE(ra, dec, radius), BOX or POLYGON of three and more corners, of numbers", node)

    def _two_points(self, call: exp.Expr) -> tuple[list[exp.Expr], list[exp.Expr]]:
        flat = _flat(call)
        if len(flat) != 4:
            raise _geometry("DISTANCE(POINT, POINT) or DISTANCE(ra, dec, ra, dec)", call)
        return flat[:2], flat[2:]

    def _limit(self, limit: int) -> None:
        given = self._tree.args.get("limit")
        wanted = _number(given.expression) if isinstance(given, exp.Limit) else None
        if given is None or wanted is None or wanted > limit:
            self._tree = self._tree.limit(limit, copy=False)


def _is_call(node: exp.Expr | None, *names: str) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).upper() in names


def _arguments(call: exp.Expr) -> list[exp.Expr]:
    """Return the arguments of a call of geometry, without the frame that ADQL 2.0 wants first."""
    given = [each.unnest() for each in call.expressions]
    return given[1:] if given and isinstance(given[0], exp.Literal) and given[0].is_string else given


def _flat(call: exp.Expr) -> list[exp.Expr]:
    """Return the arguments of a call, points among them as their two numbers."""
    return [part for each in _arguments(call) for part in (_position(each) if _is_call(each, "POINT") else [each])]


def _position(point: exp.Expr) -> list[exp.Expr]:
    arguments = _arguments(point)
    if len(arguments) != 2:
        raise _geometry("POINT(ra, dec)", point)
    return arguments


def _circle_arguments(circle: exp.Expr) -> list[exp.Expr]:
    flat = _flat(circle)
    if len(flat) != 3:
        raise _geometry("CIRCLE(ra, dec, radius) or CIRCLE(POINT, radius)", circle)
    return flat


def _point(position: Sequence[exp.Expr]) -> Point:
    return Point(_sql(position[0]), _sql(position[1]))


def _sql(node: exp.Expr) -> str:
    return node.sql(dialect="duckdb", comments=False)


def _parsed(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, dialect="duckdb")


def _number(node: exp.Expr) -> float | None:
    """Return the value of a number that is written out."""
    node = node.unnest()
    if isinstance(node, exp.Neg):
        value = _number(node.this)
        return None if value is None else -value
    return float(node.name) if isinstance(node, exp.Literal) and not node.is_string else None


def _geometry(expected: str, node: exp.Expr) -> InputError:
    return _refused(expected, node.sql(dialect=ADQL)[:120], "shapes are of numbers, points may be of columns")


def _refused(expected: str, got: str, fix: str) -> InputError:
    return InputError(expected=expected, got=one_line(got), where="ADQL", fix=fix)
