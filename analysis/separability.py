"""How well the classes of a dataset can be told apart by their vectors.

Everything is measured in the original space, not on a map, and on samples that the measure has not
seen: predictions are held out, and neighbours of the own duplicate group do not count. Samples
without a label or without a direction (zero vectors) are not judged, and not counted as neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._class_geometry import class_means, fisher_ratios, silhouettes
from ._statistics import (
    adjusted_p_values,
    as_json,
    binomial_tail,
    mean_of_defined,
    means_by_class,
    unit_numbers,
    wilson_interval,
)
from .neighbors import NeighborGraph

# Of each class, so many other classes at least are kept as pairs, and of all classes so many pairs:
# all pairs up to 63 classes, 40 for each of 100, 4 for each of 1,000. Up to 2 MB as JSON.
MIN_PAIRS_PER_CLASS = 3
MAX_PAIRS = 4000

# A pair without wrong predictions is kept from this multiple of the neighbours expected by chance.
NOTABLE_NEIGHBORS = 2

# Samples kept per pair, and the least probability of the other class against the own for one to
# lie on the boundary at all.
MAX_BOUNDARY = 30
MIN_BOUNDARY_PROBABILITY = 0.1

# Pairs are above chance at this false discovery rate.
FALSE_DISCOVERY_RATE = 0.05

# Classes that are put in order by clustering, whose time grows with the cube: 0.2 s.
MAX_CLUSTERED_CLASSES = 300

# For verdicts. Fewer samples say nothing; nor does an interval that spans half of what is possible.
MIN_COUNT = 5
MAX_INTERVAL = 0.5
# Confusion of one in twenty is worth a word, and recall and precision of nine in ten are good.
MIN_CONFUSION = 0.05
GOOD = 0.9

# Rows of the probabilities looked at together.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class ClassMeasures:
    """How well each class can be told from the others; all arrays are (num_classes,).

    Shares are in [0, 1]; what is not defined is NaN, and -1 for class numbers. A class of one
    sample, or of copies of one, cannot be predicted when it is held out: its recall and purity are
    not defined.

    Attributes:
        count: int64, judged samples
        recall: share of the class's samples whose held-out prediction is this class
        recall_low, recall_high: 95 % Wilson interval of the recall
        precision: share of the held-out predictions of this class that are right
        f1: harmonic mean of recall and precision
        purity: share of this class among its samples' nearest neighbours, of which as many are
            looked at as there are others of the class, at most the graph's k
        purity_expected: the same if neighbours were drawn at random
        silhouette: mean cosine silhouette in [-1, 1]; 0 for a class of one sample
        fisher: Fisher's ratio to the class that is hardest to tell from this one, >= 0
        confused_with: int64, the class that its samples are most often predicted as instead
        confused_rate: share of its samples that are
        confused_back_rate: share of that class's samples predicted as this one
        receives_from: int64, the class whose samples are most often predicted as this one
        receives_rate: share of that class's samples that are
        verdict: what to make of it, in plain words
    """

    count: np.ndarray
    recall: np.ndarray
    recall_low: np.ndarray
    recall_high: np.ndarray
    precision: np.ndarray
    f1: np.ndarray
    purity: np.ndarray
    purity_expected: np.ndarray
    silhouette: np.ndarray
    fisher: np.ndarray
    confused_with: np.ndarray
    confused_rate: np.ndarray
    confused_back_rate: np.ndarray
    receives_from: np.ndarray
    receives_rate: np.ndarray
    verdict: tuple[str, ...]


@dataclass(frozen=True)
class PairMeasures:
    """How classes mix, by ordered pair, those least due to chance first; arrays are (num_pairs,).

    Only pairs with a wrong prediction or with notably many neighbours are listed, and of each class
    the strongest (see ``MAX_PAIRS``), but always the one that it receives most from.

    Attributes:
        label, other: int64, class numbers, never equal
        count: int64, samples of ``label`` whose held-out prediction is ``other``
        predicted_share: share of the samples of ``label`` that this is
        neighbor_share: share of ``other`` among the neighbours of samples of ``label``
        expected_share: both shares if labels were drawn at random: the share of ``other``
        p_value: of so many predictions, or so many neighbours, by chance, adjusted for all pairs
            (Benjamini and Hochberg). Copies of a sample count once, and so do its neighbours
        boundary: rows of ``label`` between the two classes, those most like ``other`` first
    """

    label: np.ndarray
    other: np.ndarray
    count: np.ndarray
    predicted_share: np.ndarray
    neighbor_share: np.ndarray
    expected_share: np.ndarray
    p_value: np.ndarray
    boundary: tuple[np.ndarray, ...]

    @property
    def above_chance(self) -> np.ndarray:
        return self.p_value <= FALSE_DISCOVERY_RATE


@dataclass(frozen=True)
class SampleMeasures:
    """What was measured on each sample; all arrays are (num_rows,).

    Attributes:
        label: int64, its class, -1 if it was not judged
        unit: int64, number of its duplicate group or, in none, its own
        predicted: int64, its held-out prediction, -1 if it was not judged
        purity: float32, share of its own class among its neighbours, or NaN
        silhouette: float32 in [-1, 1], or NaN
    """

    label: np.ndarray
    unit: np.ndarray
    predicted: np.ndarray
    purity: np.ndarray
    silhouette: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(num_rows,) bool, the held-out prediction is the label."""
        return (self.predicted == self.label) & (self.label >= 0)


@dataclass(frozen=True)
class Overall:
    """All classes together.

    Attributes:
        balanced_accuracy: mean recall of the classes that have one
        accuracy: share of the held-out predictions that are right
        purity: share of neighbours of the own class, over all samples
        purity_expected: the same if neighbours were drawn at random
        silhouette: mean over all samples, as scikit-learn's ``silhouette_score``
        pairs_above_chance: ordered pairs that mix more than by chance, after correction
        classes: number of classes with samples
        samples: number of samples judged
        unlabeled: samples not judged, for want of a label
        zero_vectors: labeled samples not judged, because their vector is zero
    """

    balanced_accuracy: float
    accuracy: float
    purity: float
    purity_expected: float
    silhouette: float
    pairs_above_chance: int
    classes: int
    samples: int
    unlabeled: int
    zero_vectors: int


@dataclass(frozen=True)
class Separability:
    """How well classes can be told apart: over all, by class, by pair, by sample.

    Attributes:
        class_names: the names of the classes
        order: (num_present,) int64, the classes with samples so that those that are confused stand
            together; with more than ``MAX_CLUSTERED_CLASSES``, the least confused come last, the
            worst first
    """

    class_names: tuple[str, ...]
    overall: Overall
    classes: ClassMeasures
    pairs: PairMeasures
    samples: SampleMeasures
    order: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Everything but the samples as JSON types; None for what is not defined.

        ``classes`` lists the classes with samples, the worst first (see ``worst_first``); ``pairs``
        has their row numbers under ``boundary``; ``order`` lists labels.
        """
        name = dict(enumerate(self.class_names))
        classes = _records(self.classes, ("confused_with", "receives_from"), name)
        pairs = _records(self.pairs, ("label", "other"), name)
        above = self.pairs.above_chance.tolist()
        return {
            "overall": {key: as_json(value) for key, value in vars(self.overall).items()},
            "classes": [{"label": name[i], **classes[i]} for i in self.worst_first().tolist()],
            "pairs": [{**pair, "above_chance": flag} for pair, flag in zip(pairs, above)],
            "order": [name[i] for i in self.order.tolist()],
        }

    def worst_first(self) -> np.ndarray:
        """Numbers of the classes with samples: by F1, those without one last, then by number."""
        present = np.flatnonzero(self.classes.count)
        return present[np.argsort(self.classes.f1[present], kind="stable")]


def class_separability(
    rows: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    graph: NeighborGraph,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
) -> Separability:
    """Measures how well each class can be told from the others, and with which it mixes.

    Args:
        rows: (num_rows, dim) float32 unit rows; zero rows are not judged
        labels: (num_rows,) class numbers, -1 for unlabeled
        class_names: their names
        graph: the nearest neighbours of the rows
        probabilities: (num_rows, num_classes) of each class, each row's from a classifier that has
            seen neither it nor its duplicates; those of classes without rows do not matter
        groups: (num_rows,) duplicate group numbers, -1 for none

    Raises:
        ValueError: if the arrays do not fit each other, or labels are not class numbers
    """
    num_rows, num_classes = len(rows), len(class_names)
    _check(rows, labels, num_classes, graph, probabilities, groups)
    zero = ~rows.any(axis=1)
    unlabeled = labels < 0
    labels = np.where(zero, -1, labels).astype(np.int64)
    units = unit_numbers(num_rows, groups)
    judged = labels >= 0

    count = np.bincount(labels[judged], minlength=num_classes)
    copies, independent = _copies(labels, units, num_classes)
    predicted, rival, closeness = _predictions(probabilities, labels, count > 0)
    edges, edges_once, purity, purity_expected = _neighbors(graph, labels, units, copies, count)
    means = class_means(rows, labels, num_classes)
    silhouette = silhouettes(rows, labels, units, means)
    samples = SampleMeasures(labels, units, predicted, purity, silhouette)

    mixing = _mixing(samples, edges, edges_once, copies, count, independent)
    fisher = fisher_ratios(rows, labels, means)
    classes = _class_measures(samples, mixing, count, independent, purity_expected, fisher)
    classes = replace(classes, verdict=_verdicts(classes, mixing, independent, class_names))
    overall = Overall(
        balanced_accuracy=mean_of_defined(classes.recall),
        accuracy=mean_of_defined(samples.correct[judged]),
        purity=mean_of_defined(purity),
        purity_expected=mean_of_defined(purity_expected),
        silhouette=mean_of_defined(silhouette),
        pairs_above_chance=int(mixing.above_chance.sum()),
        classes=int(np.count_nonzero(count)),
        samples=int(judged.sum()),
        unlabeled=int(unlabeled.sum()),
        zero_vectors=int((zero & ~unlabeled).sum()),
    )
    return Separability(
        class_names=tuple(class_names),
        overall=overall,
        classes=classes,
        pairs=_with_boundaries(_kept(mixing, num_classes), labels, rival, closeness, num_classes),
        samples=samples,
        order=_confusion_order(classes, mixing),
    )


@dataclass(frozen=True)
class _Tally:
    """How often which pair of classes occurs: sorted codes, label * num_classes + other."""

    codes: np.ndarray
    totals: np.ndarray

    def at(self, codes: np.ndarray) -> np.ndarray:
        """The totals of these codes, 0 where they do not occur."""
        if len(self.codes) == 0:
            return np.zeros(len(codes))
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[place] == codes, self.totals[place], 0)


def _tally(codes: np.ndarray, weights: np.ndarray) -> _Tally:
    unique, place = np.unique(codes, return_inverse=True)
    return _Tally(unique, np.bincount(place, weights, minlength=len(unique)))


def _joined(tallies: list[_Tally]) -> _Tally:
    if not tallies:
        return _Tally(np.empty(0, np.int64), np.empty(0))
    codes = np.concatenate([tally.codes for tally in tallies])
    return _tally(codes, np.concatenate([tally.totals for tally in tallies]))


def _check(rows, labels, num_classes, graph, probabilities, groups) -> None:
    num_rows = len(rows)
    for name, array in (("labels", labels), ("groups", groups), ("graph", graph.indices)):
        if array is not None and len(array) != num_rows:
            raise ValueError(f"{name} has {len(array)} entries for {num_rows} rows")
    if probabilities.shape != (num_rows, num_classes):
        raise ValueError(
            f"probabilities must have shape {(num_rows, num_classes)}, not {probabilities.shape}"
        )
    if num_rows and (labels.min() < -1 or labels.max() >= num_classes):
        raise ValueError(f"labels must be -1 or below the number of classes, {num_classes}")


def _copies(
    labels: np.ndarray, units: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each row's class in its unit, itself among them; units of each class."""
    judged = np.flatnonzero(labels >= 0)
    cells, cell, sizes = np.unique(
        units[judged] * num_classes + labels[judged], return_inverse=True, return_counts=True
    )
    copies = np.zeros(len(labels), np.int64)
    copies[judged] = sizes[cell]
    return copies, np.bincount(cells % max(num_classes, 1), minlength=num_classes)


def _predictions(
    probabilities: np.ndarray, labels: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most probable class, the most probable other class, and how close that one comes.

    Closeness is the probability of the other class among the two: above 0.5 it is preferred. Only
    classes that are present, (num_classes,) bool, are considered.
    """
    predicted = np.full(len(labels), -1)
    rival = np.full(len(labels), -1)
    closeness = np.zeros(len(labels))
    judged = np.flatnonzero(labels >= 0)
    for start in range(0, len(judged), BLOCK_ROWS):
        part = judged[start : start + BLOCK_ROWS]
        block = probabilities[part].astype(np.float64)
        at = np.arange(len(part))
        block[:, ~present] = -1
        predicted[part] = block.argmax(axis=1)
        if present.sum() < 2:
            continue
        own = block[at, labels[part]]
        block[at, labels[part]] = -1
        rival[part] = block.argmax(axis=1)
        other = block[at, rival[part]]
        closeness[part] = other / np.maximum(own + other, np.finfo(np.float64).tiny)
    return predicted, rival, closeness


def _neighbors(
    graph: NeighborGraph,
    labels: np.ndarray,
    units: np.ndarray,
    copies: np.ndarray,
    count: np.ndarray,
) -> tuple[_Tally, _Tally, np.ndarray, np.ndarray]:
    """Who is next to whom, and how pure the neighbours of each row are.

    Returns:
        the neighbours by pair of classes, those of each row adding up to 1; the same with those of
        all copies of a row adding up to 1; the purity of each row; and that expected by chance
    """
    num_rows, num_classes = len(labels), len(count)
    judged = np.flatnonzero(labels >= 0)
    unit_sizes = np.bincount(units[judged], minlength=num_rows)
    purity = np.full(num_rows, np.nan, np.float32)
    expected = np.full(num_rows, np.nan, np.float32)
    tallies, tallies_once = [], []
    for start in range(0, len(judged), BLOCK_ROWS):
        part = judged[start : start + BLOCK_ROWS]
        label, neighbors = labels[part], graph.indices[part]
        # Rare classes can be pure, too: no more neighbours than there are others of the class.
        others = count[label] - copies[part]
        usable = (labels[neighbors] >= 0) & (units[neighbors] != units[part][:, None])
        usable &= np.cumsum(usable, axis=1) <= others[:, None]
        number = usable.sum(axis=1)
        own = (usable & (labels[neighbors] == label[:, None])).sum(axis=1)
        some = number > 0
        purity[part[some]] = own[some] / number[some]
        rest = len(judged) - unit_sizes[units[part]]
        expected[part[some]] = others[some] / rest[some]
        codes = (label[:, None] * num_classes + labels[neighbors])[usable]
        share = np.repeat(1 / number[some], number[some])
        tallies.append(_tally(codes, share))
        tallies_once.append(_tally(codes, share / np.repeat(copies[part], number)))
    return _joined(tallies), _joined(tallies_once), purity, expected


def _mixing(
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
    judged = np.flatnonzero(samples.label >= 0)
    codes = samples.label[judged] * num_classes + samples.predicted[judged]
    found = np.union1d(codes, edges.codes)
    label, other = np.divmod(found, max(num_classes, 1))
    mixed = (label != other) & (independent[label] >= 2)
    found, label, other = found[mixed], label[mixed], other[mixed]

    expected = count[other] / max(len(judged) - 1, 1)
    # The neighbours of a sample are alike, so that they count as one observation between 0 and 1.
    predicted_once = _tally(codes, 1 / copies[judged]).at(found)
    p_value = 2 * np.minimum(
        binomial_tail(predicted_once, independent[label], expected),
        binomial_tail(edges_once.at(found), independent[label], expected),
    )
    # Pairs that never occur have p = 1 and need not be held to be corrected for.
    tests = (independent >= 2).sum() * (np.count_nonzero(count) - 1)
    p_value = adjusted_p_values(np.minimum(p_value, 1), tests)
    predicted = _tally(codes, None).at(found)
    of_class = edges.codes // max(num_classes, 1)
    neighbors = np.bincount(of_class, edges.totals, minlength=num_classes)
    measures = PairMeasures(
        label=label,
        other=other,
        count=predicted.astype(np.int64),
        predicted_share=predicted / count[label],
        neighbor_share=edges.at(found) / np.maximum(neighbors[label], 1),
        expected_share=expected,
        p_value=p_value,
        boundary=(),
    )
    lift = (measures.predicted_share + measures.neighbor_share) / expected
    return _taken(measures, np.lexsort((other, label, -lift, p_value)))


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


def _kept(mixing: PairMeasures, num_classes: int) -> PairMeasures:
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


def _with_boundaries(
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


def _class_measures(
    samples: SampleMeasures,
    mixing: PairMeasures,
    count: np.ndarray,
    independent: np.ndarray,
    purity_expected: np.ndarray,
    fisher: np.ndarray,
) -> ClassMeasures:
    num_classes = len(count)
    judged = samples.label >= 0
    right = np.bincount(samples.label[samples.correct], minlength=num_classes)
    predictions = np.bincount(samples.predicted[judged], minlength=num_classes)
    trials = np.where(independent >= 2, count, 0)
    recall_low, recall_high = wilson_interval(right, trials)
    with np.errstate(invalid="ignore"):
        recall = right / np.where(trials > 0, trials, np.nan)
        precision = right / np.where(predictions > 0, predictions, np.nan)
        f1 = 2 * right / np.where(trials > 0, trials + predictions, np.nan)

    outward = _first_pairs(mixing.label, mixing)
    inward = _first_pairs(mixing.other, mixing)
    partner = np.full(num_classes, -1)
    source = np.full(num_classes, -1)
    partner[mixing.label[outward]] = mixing.other[outward]
    source[mixing.other[inward]] = mixing.label[inward]
    everyone = np.arange(num_classes)
    return ClassMeasures(
        count=count,
        recall=recall,
        recall_low=recall_low,
        recall_high=recall_high,
        precision=precision,
        f1=f1,
        purity=means_by_class(samples.purity, samples.label, num_classes),
        purity_expected=means_by_class(purity_expected, samples.label, num_classes),
        silhouette=means_by_class(samples.silhouette, samples.label, num_classes),
        fisher=fisher,
        confused_with=partner,
        confused_rate=_rates(mixing, everyone, partner, recall),
        confused_back_rate=_rates(mixing, partner, everyone, recall),
        receives_from=source,
        receives_rate=_rates(mixing, source, everyone, recall),
        verdict=(),
    )


def _first_pairs(by: np.ndarray, mixing: PairMeasures) -> np.ndarray:
    """The place of the most frequent pair of each class in ``by`` that has wrong predictions."""
    places = _strongest(by, mixing)
    places = places[mixing.count[places] > 0]
    return places[_first_of_each(by[places])]


def _rates(
    mixing: PairMeasures, label: np.ndarray, other: np.ndarray, recall: np.ndarray
) -> np.ndarray:
    """Shares of the samples of ``label`` predicted as ``other``, class by class.

    0 where nothing is, or there is no such class; NaN where ``label`` cannot be predicted.
    """
    codes = mixing.label * len(recall) + mixing.other
    order = np.argsort(codes)
    table = _Tally(codes[order], mixing.predicted_share[order])
    rates = np.where((label < 0) | (other < 0), 0, table.at(label * len(recall) + other))
    rates[(label >= 0) & np.isnan(recall[label])] = np.nan
    return rates


def _verdicts(
    classes: ClassMeasures, mixing: PairMeasures, independent: np.ndarray, names: tuple[str, ...]
) -> tuple[str, ...]:
    """What to make of each class, in plain words; empty for classes without samples."""
    telling = np.flatnonzero(mixing.above_chance & (mixing.predicted_share >= MIN_CONFUSION))
    telling = telling[np.argsort(-mixing.predicted_share[telling], kind="stable")]
    outward: dict[int, list[tuple[int, float]]] = {}
    inward: dict[int, list[tuple[int, float]]] = {}
    for place in telling.tolist():
        label, other = int(mixing.label[place]), int(mixing.other[place])
        share = float(mixing.predicted_share[place])
        outward.setdefault(label, []).append((other, share))
        inward.setdefault(other, []).append((label, share))
    alone = np.count_nonzero(classes.count) == 1
    verdicts = []
    for i, count in enumerate(classes.count.tolist()):
        if count == 0:
            verdicts.append("")
        elif alone:
            verdicts.append("the only class: nothing to tell it from")
        elif count == 1:
            verdicts.append("too few to tell (only one)")
        elif independent[i] < MIN_COUNT:
            copies = ", without copies" if independent[i] < count else ""
            verdicts.append(f"too few to tell (only {independent[i]}{copies})")
        else:
            verdicts.append(_verdict(i, classes, outward.get(i, []), inward.get(i, []), names))
    return tuple(verdicts)


def _verdict(
    i: int,
    classes: ClassMeasures,
    outward: list[tuple[int, float]],
    inward: list[tuple[int, float]],
    names: tuple[str, ...],
) -> str:
    """What to make of a class.

    Args:
        i: its number
        outward: the classes that it is taken for beyond chance, and the shares of its samples
        inward: the classes taken for it beyond chance, and the shares of their samples
    """
    recall, precision = classes.recall[i], classes.precision[i]
    low, high = classes.recall_low[i], classes.recall_high[i]
    taken = [f"{_percent(share)} of {names[j]}" for j, share in inward[:2]]
    received = f"{' and '.join(taken)} {'is' if len(taken) == 1 else 'are'} taken for it"
    if outward:
        (first, share), *further = outward
        verdict = f"mixes with {names[first]} ({_percent(share)} of its held-out predictions)"
        verdict += "".join(f" and {names[j]} ({_percent(share)})" for j, share in further[:1])
        return f"{verdict}; {received}" if inward else verdict
    if high - low > MAX_INTERVAL:
        return f"too few to tell (recall between {_percent(low)} and {_percent(high)})"
    if recall >= GOOD:
        if inward:
            return f"recognised (recall {_percent(recall)}), but {received}"
        if precision >= GOOD:
            return f"well separated (recall {_percent(recall)})"
        return (
            f"recognised (recall {_percent(recall)}), but only {_percent(precision)} of what is "
            "taken for it belongs to it"
        )
    rate = classes.confused_rate[i]
    if rate >= MIN_CONFUSION:
        partner = names[classes.confused_with[i]]
        verdict = f"recall {_percent(recall)}: mostly taken for {partner} ({_percent(rate)})"
    else:
        verdict = f"recall {_percent(recall)}: errors spread over several classes"
    return f"{verdict}; {received}" if inward else verdict


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _confusion_order(classes: ClassMeasures, mixing: PairMeasures) -> np.ndarray:
    """The classes with samples, in an order in which those that mix stand together.

    Average linkage of the mean of both directions' predictions and neighbours, the leaves in the
    optimal order of Bar-Joseph et al., "Fast optimal leaf ordering" (2001).
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    present = np.flatnonzero(classes.count)
    worst_first = present[np.argsort(classes.f1[present], kind="stable")]
    chosen, rest = worst_first[:MAX_CLUSTERED_CLASSES], worst_first[MAX_CLUSTERED_CLASSES:]
    if len(chosen) < 3:
        return worst_first
    chosen = np.sort(chosen)
    place = np.full(len(classes.count), -1)
    place[chosen] = np.arange(len(chosen))
    row, column = place[mixing.label], place[mixing.other]
    inside = (row >= 0) & (column >= 0)
    mixed = np.zeros((len(chosen), len(chosen)))
    mixed[row[inside], column[inside]] = (mixing.predicted_share + mixing.neighbor_share)[
        inside
    ] / 2
    distance = 1 - (mixed + mixed.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return np.concatenate([chosen[leaves_list(tree)], rest])


def _records(
    measures: ClassMeasures | PairMeasures, numbers: tuple[str, ...], name: dict[int, str]
) -> list[dict[str, Any]]:
    """One dict of JSON types per entry; class numbers become names."""
    columns = {}
    for key, array in vars(measures).items():
        if key in numbers:
            columns[key] = [name.get(number) for number in array.tolist()]
        elif key == "boundary":
            columns[key] = [rows.tolist() for rows in array]
        else:
            columns[key] = [as_json(value) for value in array]
    return [dict(zip(columns, values)) for values in zip(*columns.values())]
