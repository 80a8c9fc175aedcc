"""How unlike the usual combination departures are: what moves together may, what never did
may not.

Source: P. C. Mahalanobis, "On the generalised distance in statistics", 1936; the ridge is a
fixed shrinkage towards equal variances (O. Ledoit and M. Wolf, 2004, choose it by the data).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.features import Array

CLIP: Final = 8.0
"""A departure counts at most so much: beyond, distance has said it all."""
_RIDGE: Final = 0.05
_LEAST_VARIANCE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Residual:
    """``whitening``: (…, horizons, columns, columns), lower triangular, finite; one for all
    rows, or one for each image.
    """

    whitening: Array

    def distance(self, off: Array) -> Array:
        """In standard deviations of quiet times. ``off``: (…, horizons, columns), finite, where
        there is one for each image (…, images, members, horizons, columns); the result (…,
        horizons), not negative. A row gives the same bits in any company.
        """
        near = np.minimum(np.maximum(off, -CLIP), CLIP)[..., None]
        of_image = self.whitening[:, None] if self.whitening.ndim > 3 else self.whitening
        # A product for each row, not one for all: it adds in one order whatever lies beside.
        white = np.matmul(of_image, near)[..., 0]
        return np.asarray(np.sqrt((white * white).sum(axis=-1)))


def learned(off: Array) -> Residual:
    """From departures in quiet times, ``(rows, horizons, columns)``; with fewer than two rows
    every column counts alike.
    """
    near = np.clip(off, -CLIP, CLIP)
    return Residual(np.array([_whitening(near[:, at]) for at in range(off.shape[1])]))


def _whitening(near: Array) -> Array:
    columns = near.shape[1]
    if len(near) < 2:
        return np.eye(columns)
    centred = near - near.mean(axis=0)
    return whitened(np.einsum("rj,rk->jk", centred, centred, optimize=True) / (len(near) - 1))


def whitened(covariance: Array) -> Array:
    """What makes departures of these covariances uncorrelated and of variance 1, ridged so
    that it always exists. Shapes (…, columns, columns), the result lower triangular.
    """
    columns = covariance.shape[-1]
    variance = np.trace(covariance, axis1=-2, axis2=-1) / columns
    even = _RIDGE * np.maximum(variance, 1e-6) + _LEAST_VARIANCE
    ridged = covariance + even[..., None, None] * np.eye(columns)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(ridged)))


GUESS_ROWS: Final = 8.0
_SLOWEST: Final = 0.002
"""The least weight of a new row: some hundred rows of memory."""


@dataclass(frozen=True)
class Together:
    """A residual that learns row by row. ``moments`` (horizons, columns, columns): the mean
    products of departures in quiet times, about zero, in single precision; worth so many
    ``rows``.
    """

    moments: Array
    rows: float = GUESS_ROWS

    @classmethod
    def guess(cls, horizons: int, columns: int) -> Together:
        """Before any row: every column counts alike."""
        return cls(np.tile(np.eye(columns), (horizons, 1, 1)))

    @functools.cached_property
    def residual(self) -> Residual:
        """What holds rows against them."""
        return Residual(whitened(self.moments))


def after(before: Sequence[Together], off: Array) -> list[Together]:
    """Once each has seen rows of its own too: ``(images, rows, horizons, columns)``, finite."""
    near = np.minimum(np.maximum(off, -CLIP), CLIP).swapaxes(1, 2)
    rows = [min(one.rows + off.shape[1], 1.0 / _SLOWEST) for one in before]
    # A product for each image and horizon: it adds in one order whatever lies beside.
    seen = np.matmul(near.swapaxes(-1, -2), near)
    moments = np.array([one.moments for one in before])
    moments += (seen - off.shape[1] * moments) / np.array(rows)[:, None, None, None]
    moments = moments.astype(np.float32).astype(np.float64)
    return [Together(own.copy(), worth) for own, worth in zip(moments, rows, strict=True)]


def together(learned: Sequence[Together]) -> Residual:
    """The residuals of some images as one; made at once where they are asked for anew."""
    anew = [one for one in learned if "residual" not in vars(one)]
    if len(anew) > 1:
        made = whitened(np.array([one.moments for one in anew]))
        for one, whitening in zip(anew, made, strict=True):
            vars(one)["residual"] = Residual(whitening.copy())  # a slice keeps the whole alive
    return Residual(np.array([one.residual.whitening for one in learned]))
