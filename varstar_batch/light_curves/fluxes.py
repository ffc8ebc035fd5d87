"""Fluxes as magnitudes, with their errors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SENTINEL = 99.99
"""Magnitude, and error, of what has none: cleaning drops it and counts it."""

_POGSON = 2.5 / np.log(10.0)

Array = npt.NDArray[np.float64]


def magnitude_errors(flux: Array, flux_error: Array) -> Array:
    """Return the errors [mag] of magnitudes -2.5 log10(flux), of the same shape; NaN where the flux is not positive.

    To first order: 2.5 / ln 10 * flux_error / flux.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = _POGSON * flux_error / flux
    return np.where(flux > 0, errors, np.nan)


def magnitudes_of(flux: Array, flux_error: Array, unit: str) -> tuple[Array, Array]:
    """Return AB magnitudes and their errors of fluxes in any unit that astropy turns into spectral flux density.

    Fluxes that are not positive have no magnitude: they become 99.99 with the error 99.99, which cleaning drops and
    counts.

    Raises
    ------
    ValueError
        The unit is unknown, or not one of spectral flux density per frequency.
    """
    from astropy import units

    try:
        scale = units.Unit(unit).to(units.Jy)
    except units.UnitConversionError as error:
        raise ValueError(f"flux unit: expected one such as mJy or uJy, got {unit!r}") from error
    positive = flux > 0
    in_jansky = np.where(positive, flux * scale, 1.0)
    mag = (in_jansky * units.Jy).to_value(units.ABmag)
    mag_err = magnitude_errors(flux, flux_error)
    return np.where(positive, mag, SENTINEL), np.where(positive, mag_err, SENTINEL)


def relative_magnitudes(
    flux: Array, flux_error: Array, good: npt.NDArray[np.bool_], mean_mag: float
) -> tuple[Array, Array]:
    """Return magnitudes, `mean_mag` at the median of the good fluxes, and their errors.

    As `magnitudes_of` where a flux is not positive.
    """
    positive = flux > 0
    good = good & positive
    if not good.any():
        return np.full(flux.shape, SENTINEL), np.full(flux.shape, SENTINEL)
    mag = mean_mag - 2.5 * np.log10(np.where(positive, flux, 1.0) / np.median(flux[good]))
    error = magnitude_errors(flux, flux_error)
    return np.where(positive, mag, SENTINEL), np.where(positive, error, SENTINEL)
