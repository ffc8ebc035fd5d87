"""Light curves in memory, read as a survey's are: the same columns, units, bands and flags, without a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.survey.arrays import OBSERVED, WHERE, check_once, days, table_of, table_of_arrays, with_period
from varstar_batch.survey.bands import FUSE, band_not_there
from varstar_batch.survey.columns import PRESETS, SurveyConfig
from varstar_batch.survey.decode import SurveyBatch, decode_lists, split_batch
from varstar_batch.survey.long_form import decode_long
from varstar_batch.survey.open import Source, describe
from varstar_batch.survey.read import BATCH_OBSERVATIONS
from varstar_batch.survey.units import impossible_times


@dataclass(frozen=True)
class InMemory:
    """Light curves that somebody holds."""

    source: Source
    """How they are read."""
    table: pa.Table
    """What they are."""

    def batches(self, max_observations: int = BATCH_OBSERVATIONS) -> Iterator[SurveyBatch]:
        """Yield them in their order, as `varstar_batch.survey.read.read_batches` does.

        Raises
        ------
        InputError
            They cannot be read as they are: several bands, identifiers that are null, impossible times.
        """
        seen: Counter[str] = Counter()
        try:
            for batch in self._batches(max_observations):
                _check_times(self.source, batch)
                seen.update({} if batch.by_band is None else batch.by_band.total())
                yield batch
        except PartitionError as error:
            fix = "choose one with bands='NAME', or bands='fuse'" if error.kind == "bands" else error.fix
            raise InputError(expected=error.expected, got=error.got, where=error.where, fix=fix) from None
        if self.source.bands not in (None, FUSE) and seen and not seen[str(self.source.bands)]:
            lost = band_not_there(str(self.source.bands), seen, "bands")
            raise InputError(expected=lost.expected, got=lost.got, where="bands", fix="choose one of them, or 'fuse'")

    def _batches(self, max_observations: int) -> Iterator[SurveyBatch]:
        source, ids = self.source, self.table[self.source.columns.object_id]
        if ids.null_count:
            raise InputError(
                expected="an object in every row",
                got=f"{ids.null_count:,} nulls",
                where=source.columns.object_id,
                fix="fill them or leave these rows out",
            )
        if source.form != "long":
            check_once(ids, source.columns.object_id)
        rows = self.table.combine_chunks().to_batches()
        if source.form == "long":
            yield from decode_long(source, rows, max_observations, WHERE)
            return
        for record in rows:
            yield from split_batch(decode_lists(source, record, WHERE), max_observations, WHERE)


def hold(
    given: tuple[Any, Any, Any], period: Any, *, object_id: Any = None, band: Any = None, config: SurveyConfig
) -> InMemory:
    """Take light curves in hand.

    Parameters
    ----------
    given : tuple of time, mag, mag_err
        Arrays of one object, sequences of arrays, or a table and two times None.
    period : float, array_like, mapping or None
        Days; of a table, where it has no such column.
    object_id, band : array_like, optional
        Beside arrays; tables have columns.
    config : SurveyConfig
        Names and units of a table's columns; the band to take.

    Raises
    ------
    InputError
        It is no light curve; see `varstar_batch.survey.arrays`.
    """
    time, mag, mag_err = given
    if mag is None:
        table, config = table_of(time, config)
        if period is not None:
            table = with_period(table, period, config)
            config = config.model_copy(update={"period": config.period or "period", "period_unit": None})
    else:
        columns = dict(zip(OBSERVED, (time, mag, mag_err, band), strict=True))
        kept = {name: values for name, values in columns.items() if values is not None}
        table, is_single = table_of_arrays(kept, period, object_id)
        config = SurveyConfig().model_copy(update={"bands": config.bands, "time_system": config.time_system})
        if is_single:
            _check_period(period)
    if "period" not in table.column_names and config.period == "period":
        raise InputError(
            expected="periods in days",
            got="none",
            where="period",
            fix="give period=, or a table with a column of that name",
        )
    return InMemory(describe(table.schema, config, WHERE), table)


def config_of(columns: SurveyConfig | Mapping[str, Any] | str | None, bands: str | None) -> SurveyConfig:
    """Return names and units of columns: as given, of a preset, or canonical. Raises InputError."""
    if isinstance(columns, str):
        if columns not in PRESETS:
            raise InputError(
                expected=f"one of {', '.join(PRESETS)}", got=repr(columns), where="columns", fix="or give their names"
            )
        columns = PRESETS[columns]
    if not isinstance(columns, SurveyConfig | Mapping | None):
        raise InputError(
            expected="names of columns", got=repr(columns), where="columns", fix="give a mapping, or a preset's name"
        )
    if not isinstance(bands, str | None):
        raise InputError(
            expected="one name of a band, or 'fuse'", got=repr(bands), where="bands", fix="'fuse' combines all bands"
        )
    if not isinstance(columns, SurveyConfig):
        try:
            columns = SurveyConfig.model_validate(dict(columns or {}))
        except ValueError as error:
            unknown = sorted(map(str, set(columns or {}) - set(SurveyConfig.model_fields)))
            raise InputError(
                expected="names of columns, such as {'mag': 'Vmag'}",
                got=f"unknown {', '.join(unknown)}" if unknown else " ".join(str(error).split())[:200],
                where="columns",
                fix=f"known are {', '.join(SurveyConfig.model_fields)}",
            ) from None
    return columns if bands is None else columns.model_copy(update={"bands": bands})


def _check_period(period: Any) -> None:
    value = np.asarray(np.nan) if period is None else days(period)
    if value.size != 1 or not (np.isfinite(value) & (value > 0)).all():
        raise InputError(
            expected="a period in days, finite and above 0",
            got=str(period),
            where="period",
            fix="a star is folded with its period; `varstar ingest --find-periods` searches one",
        )


def _check_times(source: Source, batch: SurveyBatch) -> None:
    """Refuse times none of which can be in the system that somebody declared."""
    time = batch.light_curves.time
    time = time[np.isfinite(time)]
    if source.time_system is None or not len(time):
        return
    if time.max() < source.limits.time_min or time.min() > source.limits.time_max:
        raise _as_input(source, float(time.min()), float(time.max()))


def _as_input(source: Source, first: float, last: float) -> InputError:
    error = impossible_times(source.time_system or "", first, last)
    return InputError(expected=error.expected, got=error.got, where=WHERE, fix=error.fix)
