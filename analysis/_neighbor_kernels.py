"""The compiled loops of the exact neighbor search. Import inside functions: numba takes time.

Distances here are half the squared difference of unit rows, which is the cosine distance, keeps
its relative precision for near-duplicates (1 minus a product does not), and is exactly 0 for
equal rows. A zero row, which has no direction, is at distance 1 from everything.
"""

from __future__ import annotations

import numpy as np

from ._parallel import compiled

# Scores are looked at in blocks of this many: a block without one above the threshold, nearly
# every one, costs a few vector instructions.
BLOCK = 64


@compiled
def _distance(row, other, zero):
    if zero:
        return np.float32(1.0)
    total = np.float32(0.0)
    for t in range(row.size):
        difference = row[t] - other[t]
        total += difference * difference
    return np.float32(0.5) * total


@compiled
def _insert(distances, columns, distance, column):
    """Puts one neighbor into a list sorted by (distance, column); the last one falls out."""
    place = distances.size - 1
    while place > 0 and (
        distances[place - 1] > distance
        or (distances[place - 1] == distance and columns[place - 1] > column)
    ):
        distances[place] = distances[place - 1]
        columns[place] = columns[place - 1]
        place -= 1
    distances[place] = distance
    columns[place] = column


@compiled
def _offer(distances, columns, distance, column):
    """Inserts one neighbor if it comes before the last one of the list."""
    last = distances.size - 1
    if distance < distances[last] or (distance == distances[last] and column < columns[last]):
        _insert(distances, columns, distance, column)


@compiled
def select(scores, first_column, best):
    """Merges a tile of integer scores into each row's highest ones so far, in place.

    Args:
        scores: (rows, columns) int32
        first_column: the column of the whole matrix at which the tile starts
        best: (rows, size) int64, each row a heap with its lowest entry first; an entry is
            ``score << 32 | column``. Starts with the lowest score everywhere
    """
    num_rows, num_columns = scores.shape
    size = best.shape[1]
    for i in range(num_rows):
        row = scores[i]
        heap = best[i]
        threshold = np.int32(heap[0] >> 32)
        for start in range(0, num_columns, BLOCK):
            block = row[start : start + BLOCK]
            highest = block[0]
            for j in range(block.size):
                highest = max(highest, block[j])
            if highest <= threshold:
                continue
            for j in range(block.size):
                if block[j] > threshold:
                    entry = (np.int64(block[j]) << 32) | np.int64(first_column + start + j)
                    place = 0
                    while True:
                        child = 2 * place + 1
                        if child >= size:
                            break
                        if child + 1 < size and heap[child + 1] < heap[child]:
                            child += 1
                        if heap[child] >= entry:
                            break
                        heap[place] = heap[child]
                        place = child
                    heap[place] = entry
                    threshold = np.int32(heap[0] >> 32)


@compiled
def refine(queries, rows, zero_rows, own, candidates, scale, errors, distances, columns):
    """Ranks candidates by their exact distance, and says for which queries that is the answer.

    It is when every row that is not a candidate is farther than the farthest neighbor found: the
    score of such a row is at most the last candidate's, and wrong by at most the query's error.

    Args:
        queries, rows: (q, dim), (n, dim) float32 unit rows
        zero_rows: (n,) bool
        own: (q,) the row that a query itself is, or -1
        candidates: (q, size) int64 entries of ``select``, the highest score first
        scale: cosine = score * scale, up to the error
        errors: (q,) float32, the largest error of a query's scores as cosines
        distances, columns: (q, k) float32 and int32, filled by this function

    Returns:
        (q,) bool: the answer is proved
    """
    num_queries, size = candidates.shape
    k = distances.shape[1]
    proved = np.zeros(num_queries, np.bool_)
    for i in range(num_queries):
        row_distances = distances[i]
        row_columns = columns[i]
        row_distances[:] = np.inf
        row_columns[:] = 2147483647
        sound = True
        nearest_left = np.float32(np.inf)
        for c in range(size):
            column = np.int32(candidates[i, c] & 0x7FFFFFFF)
            estimate = np.float32(1.0) - np.float32(candidates[i, c] >> 32) * scale
            nearest_left = estimate - errors[i]
            if nearest_left > row_distances[k - 1]:
                break
            if column == own[i]:
                continue
            distance = _distance(queries[i], rows[column], zero_rows[column])
            # The bound is statistical where scores are quantised: each pair computed checks it.
            if abs(distance - estimate) > errors[i]:
                sound = False
            _offer(row_distances, row_columns, distance, column)
        proved[i] = sound and nearest_left > row_distances[k - 1]
    return proved


@compiled
def compare(rows, zero_rows, own, candidates, distances, columns):
    """The nearest of some candidates by their exact distance.

    Args:
        rows, zero_rows: as in ``refine``
        own: (q,) int32, the row that each query is
        candidates: (q, size) int32 rows, each once
        distances, columns: (q, k) float32 and int32; start as infinity and the largest column
    """
    for i in range(candidates.shape[0]):
        row_distances = distances[i]
        row_columns = columns[i]
        for c in range(candidates.shape[1]):
            column = candidates[i, c]
            if column == own[i]:
                continue
            distance = _distance(rows[own[i]], rows[column], zero_rows[column])
            _offer(row_distances, row_columns, distance, column)


@compiled
def sweep(scores, first_column, queries, rows, zero_rows, own, error, limits, distances, columns):
    """Merges a tile of float scores into each query's exact nearest rows so far, in place.

    Every row whose score does not rule it out is compared exactly, so the outcome is exact
    whatever the rounding of the product. Tiles must come with ascending columns.

    Args:
        scores: (q, columns) float32, cosines wrong by at most ``error``
        first_column: the row at which the tile starts
        queries, rows, zero_rows, own: as in ``refine``
        limits: (q,) float32, a distance within which k rows are known to be; infinite if unknown
        distances, columns: (q, k) float32 and int32, ascending; start as infinity
    """
    num_queries, num_columns = scores.shape
    k = distances.shape[1]
    for i in range(num_queries):
        row = scores[i]
        row_distances = distances[i]
        row_columns = columns[i]
        limit = min(limits[i], row_distances[k - 1])
        threshold = np.float32(1.0) - limit - error
        for start in range(0, num_columns, BLOCK):
            # k rows equal to the query: no later one is nearer, and ties go to the earlier row.
            if row_distances[k - 1] == 0:
                break
            block = row[start : start + BLOCK]
            highest = block[0]
            for j in range(block.size):
                highest = max(highest, block[j])
            if highest < threshold:
                continue
            for j in range(block.size):
                column = first_column + start + j
                if block[j] < threshold or column == own[i]:
                    continue
                distance = _distance(queries[i], rows[column], zero_rows[column])
                if distance <= limit and distance < row_distances[k - 1]:
                    _insert(row_distances, row_columns, distance, column)
                    limit = min(limit, row_distances[k - 1])
                    threshold = np.float32(1.0) - limit - error


@compiled
def distances_to(rows, columns, distances):
    """Fills in the exact distance of every row to each of its columns.

    Args:
        rows: (n, dim) float32 unit rows, none of them zero
        columns: (n, size) int32 rows; a row itself gets infinity
        distances: (n, size) float32
    """
    for i in range(columns.shape[0]):
        for c in range(columns.shape[1]):
            column = columns[i, c]
            distances[i, c] = np.inf
            if column >= 0 and column != i:
                distances[i, c] = _distance(rows[i], rows[column], False)
