"""What VOTable, FITS and ECSV cannot hold is told by the column's name."""

import pyarrow as pa
import pytest

from varstar_batch.catalog.columns.vo_files import vo_content
from varstar_batch.errors import InputError

INTERVAL = pa.array([pa.MonthDayNano([0, 1, 0])])


@pytest.mark.parametrize("form", ["vot", "fits", "ecsv"])
@pytest.mark.parametrize("column", [INTERVAL, pa.array([b"\xff"])])
def test_values_that_are_no_text_are_refused(form: str, column: pa.Array) -> None:
    with pytest.raises(InputError, match="in odd"):
        vo_content(pa.table({"odd": column}), form)  # type: ignore[arg-type]


def test_fits_has_names_in_ascii_only() -> None:
    with pytest.raises(InputError, match="'ü'"):
        vo_content(pa.table({"ü": [1]}), "fits")
    assert vo_content(pa.table({"ü": [1]}), "ecsv")
