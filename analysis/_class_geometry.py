"""How classes lie among unit vectors: silhouette and Fisher ratio, without pairs of rows.

Rows of one unit (a duplicate group, or a single row) say the same twice: for the silhouette,
no row is compared with the rows of its own unit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Values of a block of rows by classes, or of classes by classes: 2^22 float32, 16 MiB.
BLOCK_VALUES = 2**22


def class_means(rows: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The mean vector of each class: (num_classes, dim) float32, zero for a class without rows.

    Args:
        rows: (num_rows, dim) float32
        labels: (num_rows,) class numbers, -1 for rows to leave out
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    sums = _sums(rows, np.flatnonzero(labels >= 0), labels[labels >= 0], num_classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def silhouettes(
    rows: np.ndarray, labels: np.ndarray, units: np.ndarray, means: np.ndarray
) -> np.ndarray:
    """The cosine silhouette of each row, exactly.

    Rousseeuw, "Silhouettes" (1987), as in ``sklearn.metrics.silhouette_samples``: (b - a) divided
    by the larger of both, where a is the mean distance to the own class and b that to the nearest
    other class; 0 where the own class has no other unit. The mean cosine distance of a unit vector
    to a class is 1 minus its product with the class's mean vector, so no pairs are needed.

    Args:
        rows: (num_rows, dim) float32 unit rows
        labels: (num_rows,) class numbers, -1 for rows to leave out
        units: (num_rows,) unit numbers from 0
        means: (num_classes, dim), see ``class_means``

    Returns:
        (num_rows,) float32 in [-1, 1]; NaN for rows skipped, and everywhere when there are fewer
        than two classes
    """
    num_classes = len(means)
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    silhouette = np.full(len(rows), np.nan, np.float32)
    if np.count_nonzero(counts) < 2:
        return silhouette
    own = _own_units(rows, labels, units)
    for part in _blocks(np.flatnonzero(labels >= 0), num_classes):
        distance = 1 - (rows[part] @ means.T).astype(np.float64)
        distance[:, counts == 0] = np.inf
        # Takes the own unit out of the means of the classes that it has members in.
        first, last = np.searchsorted(own.row, [part[0], part[-1] + 1])
        place = np.searchsorted(part, own.row[first:last])
        label, number = own.label[first:last], own.number[first:last]
        total = distance[place, label] * counts[label] - (number - own.product[first:last])
        rest = counts[label] - number
        distance[place, label] = np.where(rest > 0, total / np.maximum(rest, 1), np.inf)

        every_row = np.arange(len(part))
        within = distance[every_row, labels[part]]
        distance[every_row, labels[part]] = np.inf
        nearest = distance.min(axis=1)
        defined = np.isfinite(within) & np.isfinite(nearest)
        within, nearest = within[defined], nearest[defined]
        larger = np.maximum(within, nearest)
        values = np.zeros(len(part))
        values[defined] = np.where(larger > 0, nearest - within, 0) / np.where(
            larger > 0, larger, 1
        )
        silhouette[part] = values
    return silhouette


def fisher_ratios(rows: np.ndarray, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Fisher's ratio of each class to the class that it is hardest to separate from.

    The squared distance of two class means over the sum of both variances, along the direction that
    makes it largest (Fisher, 1936). The variances are those of the pooled scatter within classes,
    shrunk after Ledoit and Wolf (2004) as in ``sklearn.covariance.ledoit_wolf``: single classes
    have fewer rows than dimensions. What sampling alone adds to the distance of two means is taken
    off. Classes of a few rows still seem to stand farther apart than they do: five rows of
    Caltech-101 classes give 1.7 times the ratio of all, without that correction 2.2 times.

    Args:
        rows: (num_rows, dim) float32
        labels: (num_rows,) class numbers, -1 for rows to leave out
        means: (num_classes, dim), see ``class_means``

    Returns:
        (num_classes,) float64, at least 0; NaN for a class with fewer than two rows or without
        another such class, and everywhere when the classes have no scatter
    """
    from scipy.linalg import solve_triangular

    counts = np.bincount(labels[labels >= 0], minlength=len(means))
    ratios = np.full(len(means), np.nan)
    classes = np.flatnonzero(counts >= 2)
    if len(classes) < 2:
        return ratios
    labels = np.where((labels >= 0) & (counts[labels] >= 2), labels, -1)
    scatter, shrinkage = pooled_covariance(rows, labels, means)
    dim = len(scatter)
    size = np.trace(scatter) / dim
    if size <= 1e-12:  # unit rows: below the rounding of float32
        return ratios
    shrunk = (1 - shrinkage) * scatter
    # The floor keeps the factor defined where nothing is shrunk and dimensions are constant.
    shrunk.flat[:: dim + 1] += max(shrinkage, 1e-6) * size
    factor = np.linalg.cholesky(shrunk)
    whitened = solve_triangular(factor, means[classes].T.astype(np.float64), lower=True).T
    half = solve_triangular(factor, scatter, lower=True)
    spread = np.trace(solve_triangular(factor, half.T, lower=True))

    # A new row lies farther out than the rows that the covariance was made from: leave-one-out.
    freedom = counts[classes].sum() - len(classes)
    noise = spread / (1 - (1 - shrinkage) * spread / freedom) / counts[classes]
    length = np.einsum("ij,ij->i", whitened, whitened)
    for part in _blocks(np.arange(len(classes)), len(classes)):
        squared = (length[part] - noise[part])[:, None] + (length - noise)
        squared -= 2 * whitened[part] @ whitened.T
        squared[np.arange(len(part)), part] = np.inf
        ratios[classes[part]] = np.maximum(squared.min(axis=1), 0) / 2
    return ratios


def pooled_covariance(
    rows: np.ndarray, labels: np.ndarray, means: np.ndarray
) -> tuple[np.ndarray, float]:
    """The covariance of the rows around the means of their classes, and how much to shrink it.

    Returns:
        covariance: (dim, dim) float64, unbiased
        shrinkage: in [0, 1], Ledoit and Wolf's weight of the mean variance against the covariance
    """
    dim = rows.shape[1]
    chosen = np.flatnonzero(labels >= 0)
    product = np.zeros((dim, dim))
    fourth = 0.0
    for part in _blocks(chosen, dim):
        residual = rows[part] - means[labels[part]]
        product += residual.T @ residual
        fourth += np.square(np.einsum("ij,ij->i", residual, residual), dtype=np.float64).sum()
    num_rows = len(chosen)
    covariance = product / num_rows
    squares = np.square(covariance).sum()
    apart = squares - np.trace(covariance) ** 2 / dim
    error = min((fourth / num_rows - squares) / num_rows, apart)
    shrinkage = error / apart if error > 0 else 0.0
    freedom = num_rows - len(np.unique(labels[chosen]))
    return covariance * num_rows / freedom, float(shrinkage)


class _OwnUnits:
    """For each row and each class that its unit has members in: their sum times the row.

    Attributes:
        row: (m,) rows, ascending
        label: (m,) a class with members in the row's unit
        number: (m,) how many
        product: (m,) float64, the sum of these members, the row among them, times the row
    """

    def __init__(self, row, label, number, product) -> None:
        order = np.argsort(row, kind="stable")
        self.row, self.label = row[order], label[order]
        self.number, self.product = number[order], product[order]


def _own_units(rows: np.ndarray, labels: np.ndarray, units: np.ndarray) -> _OwnUnits:
    labeled = np.flatnonzero(labels >= 0)
    sizes = np.bincount(units[labeled])
    single = labeled[sizes[units[labeled]] == 1]
    shared = labeled[sizes[units[labeled]] > 1]
    lengths = np.concatenate(
        [np.einsum("ij,ij->i", rows[part], rows[part]) for part in _blocks(single, rows.shape[1])]
        or [np.empty(0)]
    )
    num_classes = int(labels.max()) + 1
    cells, cell, numbers = np.unique(
        units[shared].astype(np.int64) * num_classes + labels[shared],
        return_inverse=True,
        return_counts=True,
    )
    sums = _sums(rows, shared, cell, len(cells)).astype(np.float32)
    # Each row meets the cells of its unit, which stand next to each other.
    unit_of_cell = cells // num_classes
    first = np.searchsorted(unit_of_cell, units[shared])
    per_row = np.searchsorted(unit_of_cell, units[shared], side="right") - first
    row = np.repeat(shared, per_row)
    met = np.arange(len(row)) - np.repeat(np.cumsum(per_row) - per_row - first, per_row)
    products = np.empty(len(row))
    for part in _blocks(np.arange(len(row)), rows.shape[1]):
        products[part] = np.einsum("ij,ij->i", rows[row[part]], sums[met[part]])
    return _OwnUnits(
        np.concatenate([single, row]),
        np.concatenate([labels[single], cells[met] % num_classes]),
        np.concatenate([np.ones(len(single), np.int64), numbers[met]]),
        np.concatenate([lengths, products]),
    )


def _sums(rows: np.ndarray, chosen: np.ndarray, parts: np.ndarray, num_parts: int) -> np.ndarray:
    """The sums of the chosen rows by part: (num_parts, dim) float64."""
    from scipy.sparse import csr_array

    sums = np.zeros((num_parts, rows.shape[1]))
    for block in _blocks(np.arange(len(chosen)), rows.shape[1]):
        # Only the parts that occur here: with thousands of them, most do not.
        present, part = np.unique(parts[block], return_inverse=True)
        member = csr_array(
            (np.ones(len(block)), (part, np.arange(len(block)))), (len(present), len(block))
        )
        sums[present] += member @ rows[chosen[block]].astype(np.float64)
    return sums


def _blocks(numbers: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Pieces of ``numbers`` whose rows of ``width`` values stay within the memory of a block."""
    step = max(1, BLOCK_VALUES // max(width, 1))
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]
