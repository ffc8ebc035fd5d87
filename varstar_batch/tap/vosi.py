"""What a service says of itself: availability, capabilities, tables.

Source: VOSI 1.1, TAPRegExt 1.0 and VODataService 1.1 (IVOA Recommendations).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from varstar_batch.tap.dialect import GEOMETRY
from varstar_batch.tap.jobs import RETENTION, iso
from varstar_batch.tap.request import TapRequest
from varstar_batch.tap.tables import KEYS, TapTable, column_rows
from varstar_batch.tap.votable import FORMATS

_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_OUTPUT_IDS = {
    "binary2": ' ivo-id="ivo://ivoa.net/std/TAPRegExt#output-votable-binary2"',
    "tabledata": ' ivo-id="ivo://ivoa.net/std/TAPRegExt#output-votable-td"',
}


def availability(since: datetime) -> str:
    """Return that the service is there."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<vosi:availability xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">\n'
        f"<vosi:available>true</vosi:available>\n<vosi:upSince>{iso(since)}</vosi:upSince>\n</vosi:availability>\n"
    )


def capabilities(base: str, request: TapRequest) -> str:
    """Return what the service at `base` can do."""
    standards = {
        "ivo://ivoa.net/std/VOSI#capabilities": "tap/capabilities",
        "ivo://ivoa.net/std/VOSI#availability": "tap/availability",
        "ivo://ivoa.net/std/VOSI#tables-1.1": "tap/tables",
    }
    vosi = "\n".join(
        f'<capability standardID="{standard}"><interface xsi:type="vs:ParamHTTP" role="std">'
        f'<accessURL use="full">{escape(base)}/{path}</accessURL></interface></capability>'
        for standard, path in standards.items()
    )
    features = "".join(f"<feature><form>{name}</form></feature>" for name in GEOMETRY)
    formats = "\n".join(
        f"<outputFormat{_OUTPUT_IDS.get(name, '')}><mime>{kind}</mime>"
        + "".join(f"<alias>{alias}</alias>" for alias in aliases)
        + "</outputFormat>"
        for name, (kind, aliases) in FORMATS.items()
    )
    duration, retention = round(request.limits.timeout), round(RETENTION.total_seconds())
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
 xmlns:vr="http://www.ivoa.net/xml/VOResource/v1.0" xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1"
 xmlns:tr="http://www.ivoa.net/xml/TAPRegExt/v1.0" {_XSI}>
{vosi}
<capability standardID="ivo://ivoa.net/std/TAP" xsi:type="tr:TableAccess">
<interface xsi:type="vs:ParamHTTP" role="std" version="1.1">
<accessURL use="base">{escape(base)}/tap</accessURL>
</interface>
<language><name>ADQL</name>
<version ivo-id="ivo://ivoa.net/std/ADQL#v2.0">2.0</version>
<description>ADQL with TOP, WITH, OFFSET, UNION and geometry</description>
<languageFeatures type="ivo://ivoa.net/std/TAPRegExt#features-adqlgeo">{features}</languageFeatures>
</language>
{formats}
<retentionPeriod><default>{retention}</default><hard>{retention}</hard></retentionPeriod>
<executionDuration><default>{duration}</default><hard>{duration}</hard></executionDuration>
<outputLimit><default unit="row">{request.maxrec}</default><hard unit="row">{request.most_rows}</hard></outputLimit>
</capability>
</vosi:capabilities>
"""


def tables(published: Iterable[TapTable]) -> str:
    """Return the tables and their columns."""
    schemas = [
        f"<schema><name>{name}</name>\n" + "\n".join(map(_table, found)) + "\n</schema>"
        for name, found in groupby(published, key=lambda table: table.schema_name)
    ]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<vosi:tableset xmlns:vosi="http://www.ivoa.net/xml/VOSITables/v1.0"'
        f' xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" {_XSI}>\n'
        + "\n".join(schemas)
        + "\n</vosi:tableset>\n"
    )


def _table(table: TapTable) -> str:
    columns = []
    for row in column_rows(table):
        size = f" arraysize={quoteattr(row['arraysize'])}" if row["arraysize"] else ""
        said = "".join(
            f"<{name}>{escape(row[name])}</{name}>" for name in ("description", "unit", "ucd") if row.get(name)
        )
        flags = [name for name in ("indexed",) if row[name]]
        columns.append(
            f"<column><name>{escape(row['column_name'])}</name>{said}"
            f'<dataType xsi:type="vs:VOTableType"{size}>{row["datatype"]}</dataType>'
            + "".join(f"<flag>{flag}</flag>" for flag in flags)
            + "</column>"
        )
    own = "TAP_SCHEMA."
    columns += [
        f"<foreignKey><targetTable>{own}{target}</targetTable><fkColumn><fromColumn>{a}</fromColumn>"
        f"<targetColumn>{b}</targetColumn></fkColumn></foreignKey>"
        for source, a, target, b in KEYS
        if table.name == own + source
    ]
    head = (
        f'<table type="table"><name>{escape(table.name)}</name><description>{escape(table.description)}</description>'
    )
    return head + "\n" + "\n".join(columns) + "\n</table>"
