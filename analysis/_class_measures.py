"""The results of ``separability``: what is measured by class, by pair, by sample, and over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._statistics import as_json

# Pairs are above chance at this false discovery rate.
FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class ClassMeasures:
    """How well each class is separated from the others; all arrays are (num_classes,).

    Shares are in [0, 1]; what is not defined is NaN, and -1 for class numbers. A class of one
    sample, or of copies of one, cannot be predicted when it is held out: its recall and purity are
    not defined.

    Attributes:
        count: int64, evaluated samples
        recall: share of the class's samples whose held-out prediction is this class
        recall_low, recall_high: 95 % Wilson interval of the recall
        precision: share of the held-out predictions of this class that are right
        f1: harmonic mean of recall and precision
        purity: share of this class among its samples' nearest neighbors, of which as many are
            looked at as there are others of the class, at most the graph's k
        purity_expected: the same if neighbors were drawn at random
        silhouette: mean cosine silhouette in [-1, 1]; 0 for a class of one sample
        fisher: Fisher's ratio to the class that is hardest to separate from this one, >= 0
        confused_with: int64, the class that its samples are most often predicted as instead
        confused_rate: share of its samples that are
        confused_back_rate: share of that class's samples predicted as this one
        receives_from: int64, the class whose samples are most often predicted as this one
        receives_rate: share of that class's samples that are
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


@dataclass(frozen=True)
class PairMeasures:
    """How classes mix, by ordered pair, those least due to chance first; arrays are (num_pairs,).

    Only pairs with a wrong prediction or with notably many neighbors are listed, and of each class
    the strongest (see ``MAX_PAIRS``), but always the one that it receives most from.

    Attributes:
        label, other: int64, class numbers, never equal
        count: int64, samples of ``label`` whose held-out prediction is ``other``
        predicted_share: share of the samples of ``label`` that this is
        neighbor_share: share of ``other`` among the neighbors of samples of ``label``
        expected_share: both shares if labels were drawn at random: the share of ``other``
        p_value: of so many predictions, or so many neighbors, by chance, adjusted for all pairs
            (Benjamini and Hochberg). Copies of a sample count once, and so do its neighbors
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
        label: int64, its class, -1 if it was not evaluated
        unit: int64, number of its duplicate group or, in none, its own
        predicted: int64, its held-out prediction, -1 if it was not evaluated
        purity: float32, share of its own class among its neighbors, or NaN
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
        purity: share of neighbors of the own class, over all samples
        purity_expected: the same if neighbors were drawn at random
        silhouette: mean over all samples, as scikit-learn's ``silhouette_score``
        pairs_above_chance: ordered pairs that mix more than by chance, after correction
        classes: number of classes with samples
        samples: number of samples evaluated
        unlabeled: samples not evaluated, for want of a label
        zero_vectors: labeled samples not evaluated, because their vector is zero
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
    """How well classes are separated: over all, by class, by pair, by sample.

    Attributes:
        class_names: the names of the classes
        order: (num_present,) int64, the classes with samples so that those that are confused stand
            together; with more than ``MAX_CLUSTERED_CLASSES``, the least confused come last, the
            worst first
        independent: (num_classes,) int64, evaluated samples that are no copies of each other
        confusions: all pairs above chance that take a notable share of a class's predictions
            (``MIN_CONFUSION``), the largest share first, without their boundaries
    """

    class_names: tuple[str, ...]
    overall: Overall
    classes: ClassMeasures
    pairs: PairMeasures
    samples: SampleMeasures
    order: np.ndarray
    independent: np.ndarray
    confusions: PairMeasures

    def as_dict(self) -> dict[str, Any]:
        """Overall, classes, pairs and order as JSON types; None for what is not defined.

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
