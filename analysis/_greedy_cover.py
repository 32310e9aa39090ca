"""Greedy choice of rows that are important and far from what is chosen: exact, and in blocks."""

from __future__ import annotations

import numpy as np

from ._exact_search import MIN_TORCH_ROWS, product_threads, torch_product

# Rows among which the next ones are chosen before all others are looked at again.
SHORTLIST = 2048

# Rows whose distances are updated at once.
BLOCK_ROWS, BLOCK_CHOSEN = 4096, 256


def greedy_cover(
    rows: np.ndarray, weights: np.ndarray, distances: np.ndarray, num_chosen: int
) -> np.ndarray:
    """Chooses rows one by one, always the one with the largest weight * distance.

    The distance is that to the nearest chosen row. It only falls, so the rows with the largest
    products are looked at alone until their best is no better than what the others had.

    Args:
        rows: (n, d) float32 unit rows
        weights: (n,) float64, at least 0
        distances: (n,) float32, to the nearest row that is chosen already
        num_chosen: at most n

    Returns:
        (num_chosen,) int64, in the order of choice; of equal rows the first
    """
    distances = distances.astype(np.float32)
    left = np.ones(len(rows), bool)
    chosen: list[int] = []
    while len(chosen) < num_chosen:
        gains = np.where(left, weights * distances, -1)
        size = min(SHORTLIST, len(rows))
        listed = np.argpartition(-gains, size - 1)[:size] if size < len(rows) else np.arange(size)
        listed.sort()
        others = np.ones(len(rows), bool)
        others[listed] = False
        bound = gains[others].max(initial=-1)
        places = _from_shortlist(
            rows[listed],
            weights[listed],
            distances[listed],
            left[listed],
            bound,
            num_chosen - len(chosen),
        )
        new = listed[places]
        chosen += new.tolist()
        left[new] = False
        update_nearest(distances, rows, rows[new])
    return np.array(chosen, np.int64)


def _from_shortlist(
    rows: np.ndarray,
    weights: np.ndarray,
    distances: np.ndarray,
    left: np.ndarray,
    bound: float,
    most: int,
) -> list[int]:
    """The rows that are chosen until one that is not listed may be better: at least one."""
    gains = np.where(left, weights * distances, -1)
    chosen: list[int] = []
    while len(chosen) < most:
        best = int(gains.argmax())
        if chosen and gains[best] <= bound:
            break
        chosen.append(best)
        distances = np.minimum(distances, np.maximum(1 - rows @ rows[best], 0))
        left[best] = False
        gains = np.where(left, weights * distances, -1)
    return chosen


def update_nearest(distances: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> None:
    """Lowers the distances to the nearest chosen row, in place.

    Args:
        distances: (n,) float32 cosine distances
        rows: (n, d) float32 unit rows
        chosen: (m, d) float32 unit rows
    """
    with_torch = len(rows) >= MIN_TORCH_ROWS
    product = torch_product if with_torch else np.matmul

    def work(start: int) -> None:
        block = slice(start, start + BLOCK_ROWS)
        for first in range(0, len(chosen), BLOCK_CHOSEN):
            some = chosen[first : first + BLOCK_CHOSEN]
            cosines = np.empty((len(rows[block]), len(some)), np.float32)
            product(rows[block], some.T, out=cosines)
            nearest = np.maximum(1 - cosines.max(axis=1), 0)
            distances[block] = np.minimum(distances[block], nearest)

    with product_threads(with_torch) as pool:
        list(pool.map(work, range(0, len(rows), BLOCK_ROWS)))
