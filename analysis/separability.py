"""How well the classes of a dataset are separated by their embeddings.

Everything is measured in the original space, not on a plot, and on samples that the measure has not
seen: predictions are held out, and neighbors of the own duplicate group do not count. Samples
without a label or a direction (zero vectors) are not evaluated, and do not count as neighbors.
"""

from __future__ import annotations

import numpy as np

from ._class_geometry import class_means, fisher_ratios, silhouettes
from ._class_measures import (
    ClassMeasures,
    Overall,
    PairMeasures,
    SampleMeasures,
    Separability,
)
from ._class_pairs import (
    MAX_BOUNDARY,
    MIN_CONFUSION,
    MIN_PAIRS_PER_CLASS,
    confusions,
    first_pairs,
    kept_pairs,
    measure_pairs,
    neighbor_classes,
    rates,
    with_boundaries,
)
from ._statistics import mean_of_defined, means_by_class, unit_numbers, wilson_interval
from .likely_classes import Probabilities
from .neighbors import NeighborGraph

__all__ = [
    "MAX_BOUNDARY",
    "MIN_CONFUSION",
    "MIN_PAIRS_PER_CLASS",
    "ClassMeasures",
    "Overall",
    "PairMeasures",
    "SampleMeasures",
    "Separability",
    "class_separability",
]

# The variance of a held-out recall about that of the classifier, in units of the binomial one:
# another training set, another classifier. Measured on CIFAR-10 (30, 100 and 300 per class: 1.2 to
# 1.5) and evaluated on Caltech-101 (20 per class), ``benchmarks/recall_intervals.py``.
HELD_OUT_SPREAD = 1.5

# Classes that are put in order by clustering, whose time grows with the cube: 0.2 s.
MAX_CLUSTERED_CLASSES = 300

# Rows of the probabilities looked at together.
BLOCK_ROWS = 4096


def class_separability(
    rows: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    graph: NeighborGraph,
    probabilities: Probabilities,
    groups: np.ndarray | None = None,
) -> Separability:
    """Measures how well each class is separated from the others, and with which it is confused.

    Args:
        rows: (num_rows, dim) float32 unit rows; zero rows are not evaluated
        labels: (num_rows,) class numbers, -1 for unlabeled
        class_names: their names
        graph: the nearest neighbors of the rows
        probabilities: (num_rows, num_classes) of each class, each row's from a classifier that has
            seen neither it nor its duplicates; those of classes without rows do not matter
        groups: (num_rows,) duplicate group numbers, -1 for none

    Raises:
        ValueError: if the arrays do not fit each other, or labels are not class numbers
    """
    num_rows, num_classes = len(rows), len(class_names)
    _check(rows, labels, num_classes, graph, probabilities, groups)
    zero, unlabeled = ~np.any(rows, axis=1), labels < 0
    labels = np.where(zero, -1, labels).astype(np.int64)
    units = unit_numbers(num_rows, groups)

    count = np.bincount(labels[labels >= 0], minlength=num_classes)
    copies, independent = _copies(labels, units, num_classes)
    predicted, rival, closeness = _predictions(probabilities, labels, count > 0)
    edges, edges_once, purity, purity_expected = neighbor_classes(
        graph, labels, units, copies, count
    )
    means = class_means(rows, labels, num_classes)
    silhouette = silhouettes(rows, labels, units, means)
    samples = SampleMeasures(labels, units, predicted, purity, silhouette)

    mixing = measure_pairs(samples, edges, edges_once, copies, count, independent)
    fisher = fisher_ratios(rows, labels, means)
    classes = _class_measures(samples, mixing, count, independent, purity_expected, fisher)
    kept = kept_pairs(mixing, num_classes)
    return Separability(
        class_names=tuple(class_names),
        overall=_overall(samples, classes, mixing, purity_expected, zero, unlabeled),
        classes=classes,
        pairs=with_boundaries(kept, labels, rival, closeness, num_classes),
        samples=samples,
        order=_confusion_order(classes, mixing),
        independent=independent,
        confusions=confusions(mixing),
    )


def _overall(
    samples: SampleMeasures,
    classes: ClassMeasures,
    mixing: PairMeasures,
    purity_expected: np.ndarray,
    zero: np.ndarray,
    unlabeled: np.ndarray,
) -> Overall:
    labeled = samples.label >= 0
    return Overall(
        balanced_accuracy=mean_of_defined(classes.recall),
        accuracy=mean_of_defined(samples.correct[labeled]),
        purity=mean_of_defined(samples.purity),
        purity_expected=mean_of_defined(purity_expected),
        silhouette=mean_of_defined(samples.silhouette),
        pairs_above_chance=int(mixing.above_chance.sum()),
        classes=int(np.count_nonzero(classes.count)),
        samples=int(labeled.sum()),
        unlabeled=int(unlabeled.sum()),
        zero_vectors=int((zero & ~unlabeled).sum()),
    )


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
    labeled = np.flatnonzero(labels >= 0)
    cells, cell, sizes = np.unique(
        units[labeled] * num_classes + labels[labeled], return_inverse=True, return_counts=True
    )
    copies = np.zeros(len(labels), np.int64)
    copies[labeled] = sizes[cell]
    return copies, np.bincount(cells % max(num_classes, 1), minlength=num_classes)


def _predictions(
    probabilities: Probabilities, labels: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most probable class, the most probable other class, and how close that one comes.

    Closeness is the probability of the other class among the two: above 0.5 it is preferred. Only
    classes that are present, (num_classes,) bool, are considered.
    """
    predicted = np.full(len(labels), -1)
    rival = np.full(len(labels), -1)
    closeness = np.zeros(len(labels))
    labeled = np.flatnonzero(labels >= 0)
    for start in range(0, len(labeled), BLOCK_ROWS):
        part = labeled[start : start + BLOCK_ROWS]
        block = probabilities[part].astype(np.float64)
        every_row = np.arange(len(part))
        block[:, ~present] = -1
        predicted[part] = block.argmax(axis=1)
        if present.sum() < 2:
            continue
        own = block[every_row, labels[part]]
        block[every_row, labels[part]] = -1
        rival[part] = block.argmax(axis=1)
        other = block[every_row, rival[part]]
        closeness[part] = other / np.maximum(own + other, np.finfo(np.float64).tiny)
    return predicted, rival, closeness


def _class_measures(
    samples: SampleMeasures,
    mixing: PairMeasures,
    count: np.ndarray,
    independent: np.ndarray,
    purity_expected: np.ndarray,
    fisher: np.ndarray,
) -> ClassMeasures:
    num_classes = len(count)
    labeled = samples.label >= 0
    right = np.bincount(samples.label[samples.correct], minlength=num_classes)
    predictions = np.bincount(samples.predicted[labeled], minlength=num_classes)
    trials = np.where(independent >= 2, count, 0)
    recall_low, recall_high = wilson_interval(right / HELD_OUT_SPREAD, trials / HELD_OUT_SPREAD)
    with np.errstate(invalid="ignore"):
        recall = right / np.where(trials > 0, trials, np.nan)
        precision = right / np.where(predictions > 0, predictions, np.nan)
        f1 = 2 * right / np.where(trials > 0, trials + predictions, np.nan)

    outward = first_pairs(mixing.label, mixing)
    inward = first_pairs(mixing.other, mixing)
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
        confused_rate=rates(mixing, everyone, partner, recall),
        confused_back_rate=rates(mixing, partner, everyone, recall),
        receives_from=source,
        receives_rate=rates(mixing, source, everyone, recall),
    )


def _confusion_order(classes: ClassMeasures, mixing: PairMeasures) -> np.ndarray:
    """The classes with samples, in an order in which those that mix stand together.

    Average linkage of the mean of both directions' predictions and neighbors, the leaves in the
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
