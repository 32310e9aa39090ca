"""Takes out of embeddings what a metadata field can be read off: the camera, the site, the split.

LEACE in closed form (Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff and Biderman, "LEACE:
Perfect linear concept erasure in closed form", 2023): the embeddings are whitened, the subspace
that covaries with the field is projected out, and they are colored again. Afterwards the means of
all values of the field coincide, so that no linear classifier does better than guessing, and of all
linear ways to get there this one moves the embeddings least.

A camera does not move all images alike, so that a classifier that is not linear, or the neighbors,
may still predict it. Then the means within cells of similar rows are made to coincide as well,
which is the same computation with a column for each value in each cell.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..cores import num_cores
from ..steps import ProgressCallback
from ._probe_features import fold_numbers
from .class_probe import held_out_probabilities
from .field_prediction import FieldPrediction, measure_field_prediction
from .neighbors import neighbor_graph
from .vectors import BLOCK_ROWS, content_keys, unit_rows

# Share of a round covariance that is mixed into the one of the rows: without it, directions in
# which few rows hardly vary would count as much as the others. Means coincide for any share.
ROUND_SHARE = 0.01

# Covariances with the field below this share of the largest one are rounding.
SMALLEST_SHARE = 1e-5

# Cells, where the field is still read without any. 1,224 images of Caltech-101, every other one
# with a strong cast: read off new rows at 0.935, without cells at 0.681, in 16 at 0.574, in 48 at
# 0.521. At most, because they would take out too many directions with many values, and chance with
# few rows for each direction.
MAX_CELLS, MAX_DIRECTION_SHARE, ROWS_PER_DIRECTION = 48, 0.1, 20

# Rows on which cells are found.
CELL_ROWS = 10_000

# Erasures that are tried in the measurement, each on the rows that it has not seen, and rows that
# are looked at: a balanced accuracy of 5,000 has a standard error of 0.7 percent.
FOLDS, MEASURED_ROWS = 5, 5000


@dataclass(frozen=True)
class Erasure:
    """What is taken out of rows: ``row - back @ (read @ (row - mean))``.

    Attributes:
        mean: (dim,) float32, the row that stays where it is
        read: (r, dim) float32, where the field is read
        back: (dim, r) float32, what is taken away for it
    """

    mean: np.ndarray
    read: np.ndarray
    back: np.ndarray

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, dim) float32 without it: (n, dim) float32."""
        return rows - ((rows - self.mean) @ self.read.T) @ self.back.T


@dataclass(frozen=True)
class ErasedField:
    """An erasure, and how well the field is read before and after it.

    Attributes:
        erasure: learned from all rows that have a value
        cells: in how many cells of similar rows means coincide; 1: in the whole only
        before, after: how well the field is predicted for rows that neither the classifier nor the
            erasure has seen
        rows: on how many rows that was measured
    """

    erasure: Erasure
    cells: int
    before: FieldPrediction
    after: FieldPrediction
    rows: int


def erase_field(
    rows: np.ndarray,
    values: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int | None = 51,
    progress: ProgressCallback | None = None,
) -> ErasedField:
    """Takes a field out of rows, in as many cells as it needs not to be read any more.

    Args:
        rows: (n, dim) float32 unit rows, zero rows allowed
        values: (n,) integers, the value of the field, -1 for none: such rows are not learned from
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        seed: of the rows that are looked at, of cells and classifiers
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if the arrays do not fit each other, or there are fewer than two values

    Example:
        Images of digits, half of them with a bright corner, as if from another camera:

        >>> from sklearn.datasets import load_digits
        >>> from fiftyone_embedding_quality.analysis.vectors import unit_rows
        >>> images, camera = load_digits().data[:200], np.arange(200) % 2
        >>> images[camera == 1, 0] = 8
        >>> erased = erase_field(unit_rows(images).rows, camera)
        >>> erased.before.balanced_accuracy > 0.95, erased.after.balanced_accuracy < 0.75
        (True, True)
    """
    chosen = _measured_rows(rows, values, seed)
    if len(np.unique(values[chosen])) < 2:
        raise ValueError("A field needs at least two values to be removed")
    held_out = _HeldOut(rows[chosen], values[chosen], groups, chosen, seed)
    most = _most_cells(rows, values)
    tried = [1, most] if most > 1 else [1]

    def share(done: int) -> None:
        if progress is not None:
            progress(done / (len(tried) + 1))

    before = held_out.predicted(None)
    for number, cells in enumerate(tried, start=1):
        share(number)
        after = held_out.predicted(cells)
        if after.low <= after.chance:
            break
    erasure = fit_erasure(rows, values, cells, seed)
    share(len(tried) + 1)
    return ErasedField(erasure, cells, before, after, len(chosen))


def _most_cells(rows: np.ndarray, values: np.ndarray) -> int:
    known = values[values >= 0]
    directions = min(MAX_DIRECTION_SHARE * rows.shape[1], len(known) / ROWS_PER_DIRECTION)
    return min(MAX_CELLS, int(directions / (len(np.unique(known)) - 1)))


def fit_erasure(
    rows: np.ndarray, values: np.ndarray, cells: int = 1, seed: int | None = 51
) -> Erasure:
    """Finds what to take out of rows so that no linear classifier reads a field off them.

    Memory beyond the rows: a few matrices of dim x dim.

    Args:
        rows: (n, dim) float32, finite
        values: (n,) integers, the value of the field, -1 for none: such rows are not learned from
        cells: 1, or also within so many cells of similar rows
        seed: of the cells

    Raises:
        ValueError: if the arrays do not fit each other, or there are fewer than two values
    """
    values = np.asarray(values)
    if values.shape != (len(rows),):
        raise ValueError(f"There are {values.shape} values for {len(rows)} rows")
    known = np.flatnonzero(values >= 0)
    present, codes = np.unique(values[known], return_inverse=True)
    if len(present) < 2:
        raise ValueError("A field needs at least two values to be removed")
    cell = np.zeros(len(known), np.int64)
    if cells > 1:
        cell = _cells(rows, known, codes, cells, seed)
    return _leace(rows, known, codes, cell)


def _cells(
    rows: np.ndarray, known: np.ndarray, codes: np.ndarray, cells: int, seed: int | None
) -> np.ndarray:
    """The cell of each known row, by k-means on some, without what is common to its value."""
    from sklearn.cluster import KMeans

    of_values = np.stack(
        [rows[known[codes == code]].mean(axis=0) for code in range(codes.max() + 1)]
    )
    some = np.arange(len(known))
    if len(known) > CELL_ROWS:
        some = np.sort(np.random.default_rng(seed).choice(some, CELL_ROWS, replace=False))
    found = KMeans(min(cells, len(some)), n_init=1, random_state=seed)
    found.fit(rows[known[some]] - of_values[codes[some]])
    numbers = []
    for start in range(0, len(known), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        numbers.append(found.predict(rows[known[part]] - of_values[codes[part]]))
    return np.concatenate(numbers).astype(np.int64)


def _leace(rows: np.ndarray, known: np.ndarray, codes: np.ndarray, cell: np.ndarray) -> Erasure:
    """The erasure of values from known rows, in the whole and within each cell."""
    from scipy.linalg import eigh, svd

    mean, covariance, crossing = _moments(rows, known, codes, cell)
    dim, tiny = len(mean), np.finfo(np.float64).tiny
    spread = np.trace(covariance) / dim
    covariance *= 1 - ROUND_SHARE
    covariance[np.diag_indices(dim)] += ROUND_SHARE * spread + tiny
    variances, axes = eigh(covariance, overwrite_a=True)
    deviations = np.sqrt(np.maximum(variances, tiny))[:, None]
    found, sizes, _ = svd((axes.T @ crossing) / deviations, full_matrices=False)
    found = found[:, sizes > SMALLEST_SHARE * max(sizes[0], np.finfo(np.float32).tiny)]
    read, back = (axes @ (found / deviations)).T, axes @ (found * deviations)
    return Erasure(*(np.ascontiguousarray(part, np.float32) for part in (mean, read, back)))


def _moments(
    rows: np.ndarray, known: np.ndarray, codes: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of rows, their covariance, and that with the values, (dim, columns); float64.

    There is a column for each value, and one for each value in each cell, where it is 1 less the
    share of the value there.
    """
    dim, num_values, num_cells = rows.shape[1], int(codes.max()) + 1, int(cell.max()) + 1
    joint = cell * num_values + codes
    count = np.bincount(joint, minlength=num_cells * num_values).reshape(num_cells, num_values, 1)
    sums, products = np.zeros((num_cells * num_values, dim)), np.zeros((dim, dim))
    mean = rows[known].mean(axis=0, dtype=np.float64)
    for start in range(0, len(known), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = rows[known[part]] - mean
        np.add.at(sums, joint[part], block)
        products += block.T @ block
    by_cell = sums.reshape(num_cells, num_values, dim)
    of_cells = count.sum(axis=1, keepdims=True)
    within = by_cell - by_cell.sum(axis=1, keepdims=True) * (count / np.maximum(of_cells, 1))
    columns = np.concatenate([by_cell.sum(axis=0), within.reshape(-1, dim)]) / len(known)
    return mean, products / len(known), columns.T


def _measured_rows(rows: np.ndarray, values: np.ndarray, seed: int | None) -> np.ndarray:
    """Rows that have a direction and a value, so many of them that it is quick."""
    chosen = np.flatnonzero((values >= 0) & rows.any(axis=1))
    if len(chosen) > MEASURED_ROWS:
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(chosen, MEASURED_ROWS, replace=False))
    return chosen


class _HeldOut:
    """How well a field is predicted for rows that neither classifier nor erasure has seen.

    Rows from which an erasure was learned hold less than nothing of the field: a classifier that
    has not seen one of them guesses the wrong value. That would look better than it is.
    """

    def __init__(
        self,
        rows: np.ndarray,
        values: np.ndarray,
        groups: np.ndarray | None,
        chosen: np.ndarray,
        seed: int | None,
    ) -> None:
        self.rows, self.seed = rows, seed
        self.values = np.unique(values, return_inverse=True)[1]
        self.groups = np.full(len(rows), -1) if groups is None else groups[chosen]
        with ThreadPoolExecutor(num_cores()) as pool:
            keys = content_keys(rows, seed, pool)
        self.fold = fold_numbers(self.values, self.groups, keys, FOLDS)

    def predicted(self, cells: int | None) -> FieldPrediction:
        """With an erasure in so many cells, or None."""
        num_values = int(self.values.max()) + 1
        probabilities = np.full((len(self.rows), num_values), 1 / num_values, np.float32)
        for number in np.unique(self.fold):
            held_out = self.fold == number
            known = np.where(held_out, -1, self.values)
            if len(np.unique(known[known >= 0])) < 2:
                continue  # a value that only these have
            rows = self.rows
            if cells is not None:
                rows = unit_rows(fit_erasure(rows, known, cells, self.seed).apply(rows)).rows
            graph = neighbor_graph(rows, seed=self.seed)
            evidence = held_out_probabilities(
                rows, known, num_values, graph, self.groups, self.seed
            )
            probabilities[held_out] = evidence.probabilities[held_out]
        names = tuple(map(str, range(num_values)))
        return measure_field_prediction(probabilities, self.values, names, None, self.groups)
