"""Which classes mix with which: wrong predictions and neighbors by ordered pair of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ._class_measures import PairMeasures, SampleMeasures
from ._statistics import adjusted_p_values, binomial_tail
from .neighbors import NeighborGraph

# Of each class, so many other classes at least are kept as pairs, and of all classes so many pairs:
# all pairs up to 63 classes, 40 for each of 100, 4 for each of 1,000. Up to 2 MB as JSON.
MIN_PAIRS_PER_CLASS = 3
MAX_PAIRS = 4000

# A pair without wrong predictions is kept from this multiple of the neighbors expected by chance.
NOTABLE_NEIGHBORS = 2

# Samples kept per pair, and the least probability of the other class against the own for one to
# lie on the boundary at all.
MAX_BOUNDARY = 30
MIN_BOUNDARY_PROBABILITY = 0.1

# Confusion of one in twenty is worth a word.
MIN_CONFUSION = 0.05

# Rows of the probabilities looked at together.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class _Tally:
    """How often which pair of classes occurs: sorted codes, label * num_classes + other."""

    codes: np.ndarray
    totals: np.ndarray

    def totals_of(self, codes: np.ndarray) -> np.ndarray:
        """The totals of these codes, 0 where they do not occur."""
        if len(self.codes) == 0:
            return np.zeros(len(codes))
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[place] == codes, self.totals[place], 0)


def _tally(codes: np.ndarray, weights: np.ndarray | None) -> _Tally:
    unique, place = np.unique(codes, return_inverse=True)
    return _Tally(unique, np.bincount(place, weights, minlength=len(unique)))


def _joined(tallies: list[_Tally]) -> _Tally:
    if not tallies:
        return _Tally(np.empty(0, np.int64), np.empty(0))
    codes = np.concatenate([tally.codes for tally in tallies])
    return _tally(codes, np.concatenate([tally.totals for tally in tallies]))


def neighbor_classes(
    graph: NeighborGraph,
    labels: np.ndarray,
    units: np.ndarray,
    copies: np.ndarray,
    count: np.ndarray,
) -> tuple[_Tally, _Tally, np.ndarray, np.ndarray]:
    """Who is next to whom, and how pure the neighbors of each row are.

    Returns:
        the neighbors by pair of classes, those of each row adding up to 1; the same with those of
        all copies of a row adding up to 1; the purity of each row; and that expected by chance
    """
    num_rows, num_classes = len(labels), len(count)
    labeled = np.flatnonzero(labels >= 0)
    unit_sizes = np.bincount(units[labeled], minlength=num_rows)
    purity = np.full(num_rows, np.nan, np.float32)
    expected = np.full(num_rows, np.nan, np.float32)
    tallies, tallies_once = [], []
    for start in range(0, len(labeled), BLOCK_ROWS):
        part = labeled[start : start + BLOCK_ROWS]
        label, neighbors = labels[part], graph.indices[part]
        # Rare classes can be pure, too: no more neighbors than there are others of the class.
        others = count[label] - copies[part]
        usable = (labels[neighbors] >= 0) & (units[neighbors] != units[part][:, None])
        usable &= np.cumsum(usable, axis=1) <= others[:, None]
        number = usable.sum(axis=1)
        own = (usable & (labels[neighbors] == label[:, None])).sum(axis=1)
        some = number > 0
        purity[part[some]] = own[some] / number[some]
        rest = len(labeled) - unit_sizes[units[part]]
        expected[part[some]] = others[some] / rest[some]
        codes = (label[:, None] * num_classes + labels[neighbors])[usable]
        share = np.repeat(1 / number[some], number[some])
        tallies.append(_tally(codes, share))
        tallies_once.append(_tally(codes, share / np.repeat(copies[part], number)))
    return _joined(tallies), _joined(tallies_once), purity, expected


def measure_pairs(
    samples: SampleMeasures,
    edges: _Tally,
    edges_once: _Tally,
    copies: np.ndarray,
    count: np.ndarray,
    independent: np.ndarray,
) -> PairMeasures:
    """All pairs that mix at all, without their boundaries, the least by chance first.

    Args:
        edges, edges_once, copies: see ``_neighbors``, ``_copies``
        independent: (num_classes,) samples that are no copies of each other
    """
    num_classes = len(count)
    labeled = np.flatnonzero(samples.label >= 0)
    codes = samples.label[labeled] * num_classes + samples.predicted[labeled]
    found = np.union1d(codes, edges.codes)
    label, other = np.divmod(found, max(num_classes, 1))
    mixed = (label != other) & (independent[label] >= 2)
    found, label, other = found[mixed], label[mixed], other[mixed]

    expected = count[other] / max(len(labeled) - 1, 1)
    # The neighbors of a sample are alike, so that they count as one observation between 0 and 1.
    predicted_once = _tally(codes, 1 / copies[labeled]).totals_of(found)
    p_value = 2 * np.minimum(
        binomial_tail(predicted_once, independent[label], expected),
        binomial_tail(edges_once.totals_of(found), independent[label], expected),
    )
    # Pairs that never occur have p = 1 and need not be held to be corrected for.
    tests = int((independent >= 2).sum() * (np.count_nonzero(count) - 1))
    p_value = adjusted_p_values(np.minimum(p_value, 1), tests)
    predicted = _tally(codes, None).totals_of(found)
    of_class = edges.codes // max(num_classes, 1)
    neighbors = np.bincount(of_class, edges.totals, minlength=num_classes)
    measures = PairMeasures(
        label=label,
        other=other,
        count=predicted.astype(np.int64),
        predicted_share=predicted / count[label],
        neighbor_share=edges.totals_of(found) / np.maximum(neighbors[label], 1),
        expected_share=expected,
        p_value=p_value,
        boundary=(),
    )
    lift = (measures.predicted_share + measures.neighbor_share) / expected
    return _taken(measures, np.lexsort((other, label, -lift, p_value)))


def confusions(mixing: PairMeasures) -> PairMeasures:
    """The pairs above chance that are worth a word, the largest share of a class first."""
    notable = np.flatnonzero(mixing.above_chance & (mixing.predicted_share >= MIN_CONFUSION))
    return _taken(mixing, notable[np.argsort(-mixing.predicted_share[notable], kind="stable")])


def _taken(pairs: PairMeasures, chosen: np.ndarray) -> PairMeasures:
    arrays = {key: array[chosen] for key, array in vars(pairs).items() if key != "boundary"}
    return PairMeasures(**arrays, boundary=())


def _strongest(by: np.ndarray, pairs: PairMeasures) -> np.ndarray:
    """Places of the pairs, those of each class in ``by`` together, the most frequent first."""
    partner = np.where(by == pairs.label, pairs.other, pairs.label)
    return np.lexsort((partner, -pairs.neighbor_share, -pairs.count, by))


def _first_of_each(ordered: np.ndarray) -> np.ndarray:
    """Which entries of an ordered array differ from the entry before."""
    return np.concatenate([np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1]])


def kept_pairs(mixing: PairMeasures, num_classes: int) -> PairMeasures:
    """The pairs that are worth storing."""
    per_class = max(MIN_PAIRS_PER_CLASS, MAX_PAIRS // max(num_classes, 1))
    notable = (mixing.count > 0) | (
        mixing.neighbor_share >= NOTABLE_NEIGHBORS * mixing.expected_share
    )
    keep = np.zeros(len(notable), bool)
    places = _strongest(mixing.label, mixing)
    starts = np.flatnonzero(_first_of_each(mixing.label[places]))
    rank = np.arange(len(places)) - np.repeat(starts, np.diff(np.append(starts, len(places))))
    keep[places[rank < per_class]] = True
    # What a class receives most of is named by the class, so it is always there to be looked at.
    places = _strongest(mixing.other, mixing)
    keep[places[_first_of_each(mixing.other[places])]] = True
    return _taken(mixing, np.flatnonzero(keep & notable))


def with_boundaries(
    pairs: PairMeasures,
    labels: np.ndarray,
    rival: np.ndarray,
    closeness: np.ndarray,
    num_classes: int,
) -> PairMeasures:
    """The pairs, and the rows between both classes, those closest to the other one first."""
    rows = np.flatnonzero((rival >= 0) & (closeness >= MIN_BOUNDARY_PROBABILITY))
    codes = labels[rows] * num_classes + rival[rows]
    order = np.lexsort((-closeness[rows], codes))
    rows, codes = rows[order], codes[order]
    wanted = pairs.label * num_classes + pairs.other
    first = np.searchsorted(codes, wanted)
    last = np.minimum(np.searchsorted(codes, wanted, side="right"), first + MAX_BOUNDARY)
    return replace(pairs, boundary=tuple(rows[i:j] for i, j in zip(first, last)))


def first_pairs(by: np.ndarray, mixing: PairMeasures) -> np.ndarray:
    """The place of the most frequent pair of each class in ``by`` that has wrong predictions."""
    places = _strongest(by, mixing)
    places = places[mixing.count[places] > 0]
    return places[_first_of_each(by[places])]


def rates(
    mixing: PairMeasures, label: np.ndarray, other: np.ndarray, recall: np.ndarray
) -> np.ndarray:
    """Shares of the samples of ``label`` predicted as ``other``, class by class.

    0 where nothing is, or there is no such class; NaN where ``label`` cannot be predicted.
    """
    codes = mixing.label * len(recall) + mixing.other
    order = np.argsort(codes)
    table = _Tally(codes[order], mixing.predicted_share[order])
    rates = np.where((label < 0) | (other < 0), 0, table.totals_of(label * len(recall) + other))
    rates[(label >= 0) & np.isnan(recall[label])] = np.nan
    return rates
