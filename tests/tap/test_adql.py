"""ADQL becomes SQL that finds what the sphere says; what is no ADQL is refused with one line."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from varstar_batch.catalog.cone import Cone
from varstar_batch.errors import InputError
from varstar_batch.tap.adql import LONGEST, translate

TABLES = {"varstar.stars": "stars", "varstar.others": "others", "tap_schema.tables": "tap_schema_tables"}
RNG = np.random.default_rng(5)
RA, DEC = RNG.uniform(0, 360, 4000), np.degrees(np.arcsin(RNG.uniform(-1, 1, 4000)))
SKY = SkyCoord(RA * u.deg, DEC * u.deg)


def found(where: str) -> set[int]:
    """Which of the stars a condition lets pass."""
    sql = translate(f"SELECT n FROM stars WHERE {where}", TABLES, 10_000).sql
    with duckdb.connect() as connection:
        connection.register("catalog@stars", pa.table({"n": np.arange(4000), "ra": RA, "dec": DEC}))
        connection.execute("CREATE MACRO catalog_at(run) AS TABLE FROM query_table('catalog@' || run)")
        return {row[0] for row in connection.sql(sql).fetchall()}


def numbers(mask: np.ndarray) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


@pytest.mark.parametrize(("ra", "dec", "radius"), [(10.0, 5.0, 12.0), (359.5, -30.0, 20.0), (70.0, 89.0, 15.0)])
def test_a_circle_holds_what_astropy_says(ra: float, dec: float, radius: float) -> None:
    inside = SKY.separation(SkyCoord(ra * u.deg, dec * u.deg)).deg <= radius
    circle = f"CIRCLE('ICRS', {ra}, {dec}, {radius})"
    assert found(f"1 = CONTAINS(POINT('ICRS', ra, dec), {circle})") == numbers(inside)
    assert found(f"CONTAINS(POINT(ra, dec), CIRCLE(POINT({ra}, {dec}), {radius})) = 1") == numbers(inside)
    assert found(f"INTERSECTS({circle}, POINT(ra, dec)) = 1") == numbers(inside)
    assert found(f"CONTAINS(POINT(ra, dec), {circle}) = 0") == numbers(~inside)
    assert found(f"DISTANCE(POINT(ra, dec), POINT({ra}, {dec})) <= {radius}") == numbers(inside)
    assert found(f"DISTANCE({ra}, {dec}, ra, dec) <= {radius}") == numbers(inside)
    assert found(f"CONTAINS(POINT(ra, dec), {circle}) + 0 > 0") == numbers(inside)


def test_a_box_goes_over_the_meridian() -> None:
    off = (RA - 358 + 180) % 360 - 180
    inside = (np.abs(off) <= 10) & (np.abs(DEC + 20) <= 15)
    assert found("1 = CONTAINS(POINT(ra, dec), BOX('ICRS', 358, -20, 20, 30))") == numbers(inside)


@pytest.mark.parametrize(
    "corners",
    [[(350, -10), (20, -15), (25, 20), (355, 30)], [(0, 80), (90, 75), (180, 80), (270, 70)]],
    ids=["over the meridian", "around a pole"],
)
def test_a_polygon_has_great_circles_for_edges(corners: list[tuple[float, float]]) -> None:
    """Convex ones: a point is inside if it is on one side of all the planes."""
    vectors = np.array([SkyCoord(a * u.deg, d * u.deg).cartesian.xyz.value for a, d in corners])
    normals = np.cross(vectors, np.roll(vectors, -1, axis=0))
    sides = normals @ SKY.cartesian.xyz.value
    inside = (sides >= 0).all(axis=0) | (sides <= 0).all(axis=0) & (vectors.mean(axis=0) @ SKY.cartesian.xyz.value > 0)
    inside &= vectors.mean(axis=0) @ SKY.cartesian.xyz.value > 0
    text = ", ".join(f"{a}, {d}" for a, d in corners)
    assert found(f"1 = CONTAINS(POINT(ra, dec), POLYGON('ICRS', {text}))") == numbers(inside)
    assert 10 < inside.sum() < 1000


def test_a_polygon_that_is_not_convex() -> None:
    corners = "0, 0, 40, 0, 40, 40, 20, 10, 0, 40"
    here = found(f"1 = CONTAINS(POINT(ra, dec), POLYGON({corners}))")
    parts = ("0, 0, 40, 0, 20, 10", "0, 0, 20, 10, 0, 40", "40, 0, 40, 40, 20, 10")
    assert here == set().union(*(found(f"1 = CONTAINS(POINT(ra, dec), POLYGON({part}))") for part in parts))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("1 = CONTAINS(POINT(ra, dec), CIRCLE(370, -5.5, 1)) AND period > 1", Cone(10.0, -5.5, 1.0)),
        ("period > 1 AND DISTANCE(POINT(10, -5.5), POINT(stars.ra, stars.dec)) < 2", Cone(10.0, -5.5, 2.0)),
        ("1 = CONTAINS(POINT(ra, dec), BOX(10, 20, 3, 4))", Cone(10.0, 20.0, 2.5)),
        ("1 = CONTAINS(POINT(ra, dec), CIRCLE(10, -5.5, 1)) OR period > 1", None),
        ("NOT 1 = CONTAINS(POINT(ra, dec), CIRCLE(10, -5.5, 1))", None),
        ("CONTAINS(POINT(ra, dec), CIRCLE(10, -5.5, 1)) = 0", None),
        ("1 = CONTAINS(POINT(dec, ra), CIRCLE(10, -5.5, 1))", None),
        ("1 = CONTAINS(POINT(ra, dec), CIRCLE(ra, -5.5, 1))", None),
    ],
)
def test_a_cone_is_known_only_where_nothing_else_is_wanted(where: str, expected: Cone | None) -> None:
    assert translate(f"SELECT ra FROM varstar.stars WHERE {where}", TABLES, 10).tables == {"stars": expected}


def test_a_table_that_is_there_twice_is_read_whole() -> None:
    wanted = "1 = CONTAINS(POINT(a.ra, a.dec), CIRCLE(1, 2, 3))"
    both = translate(f"SELECT a.ra FROM stars a JOIN stars b ON a.n = b.n WHERE {wanted}", TABLES, 10)
    assert both.tables == {"stars": None}
    other = translate(f"SELECT a.ra FROM stars a JOIN others b ON a.n = b.n WHERE {wanted}", TABLES, 10)
    assert other.tables == {"stars": Cone(1.0, 2.0, 3.0), "others": None}


def test_rows_are_bounded_and_columns_are_known() -> None:
    top = translate("SELECT TOP 5 s.ra, dec AS d, ra + 1 AS e, period FROM varstar.stars AS s", TABLES, 100)
    assert top.sql.endswith("LIMIT 5")
    assert top.columns == {"ra": ("stars", "ra"), "d": ("stars", "dec"), "period": ("stars", "period")}
    assert translate("SELECT TOP 500 * FROM stars", TABLES, 100).sql.endswith("LIMIT 100")
    assert translate("SELECT * FROM stars UNION SELECT * FROM others", TABLES, 100).sql.endswith("LIMIT 100")
    assert translate("SELECT * FROM stars", TABLES, 100).stars == ["stars"]


def test_functions_are_those_of_adql() -> None:
    query = "SELECT LOG(ra) AS a, LOG10(ra) AS b, TRUNCATE(ra) AS c, RAND() AS d, MOD(n, 3) AS e, PI() AS f FROM stars"
    with duckdb.connect() as connection:
        connection.register("catalog@stars", pa.table({"n": [5], "ra": [100.5]}))
        connection.execute("CREATE MACRO catalog_at(run) AS TABLE FROM query_table('catalog@' || run)")
        (row,) = connection.sql(translate(query, TABLES, 5).sql).fetchall()
    assert row[:3] == pytest.approx((np.log(100.5), np.log10(100.5), 100.0))
    assert row[4:] == (2, pytest.approx(np.pi))


REFUSED = {
    "a file": "SELECT * FROM read_csv('/etc/passwd')",
    "a file by its name": "SELECT * FROM '/etc/passwd'",
    "a file in quotes": 'SELECT * FROM "/etc/passwd"',
    "the environment": "SELECT getenv('HOME') FROM stars",
    "settings": "SELECT current_setting('temp_directory')",
    "functions of settings": "SELECT * FROM duckdb_settings()",
    "the sandbox's own tables": "SELECT * FROM information_schema.tables",
    "another run": "SELECT * FROM catalog_at('stars')",
    "a second statement": "SELECT 1; DROP TABLE stars",
    "a change": "DELETE FROM stars",
    "a copy": "COPY stars TO '/tmp/out.csv'",
    "an extension": "INSTALL httpfs",
    "another database": "ATTACH '/tmp/x.db'",
    "a new table": "SELECT * INTO mine FROM stars",
    "endless rows": "SELECT * FROM range(1000000000000)",
    "endless recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "a bomb of text": "SELECT repeat('x', 1000000000) FROM stars",
    "deep parentheses": "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "a long query": "SELECT 1 -- " + "x" * LONGEST,
    "a macro": "PRAGMA database_list",
    "a comment to hide behind": "SELECT 1 /* */; /**/ COPY (SELECT 1) TO '/tmp/x'",
    "a polygon around it all": "SELECT n FROM stars WHERE 1 = CONTAINS(POINT(ra, dec), POLYGON(0, 0, 120, 0, 240, 0))",
    "a table that is not there": "SELECT * FROM varstar.nothing",
    "nothing": "   ",
    "no words": "\x00\xff'\"((",
    "a lone quote": "SELECT 'x FROM stars",
    "a point as answer": "SELECT POINT(ra, dec) FROM stars",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_adql_gets_one_line(name: str) -> None:
    with pytest.raises(InputError) as refused:
        translate(REFUSED[name], TABLES, 100)
    assert refused.value.where == "ADQL"
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)
