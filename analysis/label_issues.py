"""Labels that are likely wrong: cleanlab's estimates on held-out evidence, ranked by agreement.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021),
through the library cleanlab. What it works on is ours: see ``class_probe``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from .class_probe import ClassEvidence, held_out_probabilities
from .neighbors import NeighborGraph

# Neighbours that are named as speaking against a label.
MAX_AGAINST = 5

# Pairs of overlapping classes that are listed.
MAX_OVERLAPS = 100

# A label is flagged whatever the count when another one is seven times as likely. On Caltech-101
# with planted issues, precision is 0.84 and recall 0.88, a flagged picture of clutter counting as
# wrong; between 0.10 and 0.14 they stay above 0.80 and 0.87. On CIFAR-10N cleanlab's count has all.
SURE = 1 / 8

# Evidence that is less than this much better than knowing the shares of the classes is none. By log
# loss, which the temperature of the evidence minimises: vectors without content reach the shares.
LEAST_GAIN = 0.02

# Share of the rows, the surest ones, whose disagreement with the labels is taken for label noise.
# With a half, precision on clean labels is overestimated; with a quarter, that on noisy ones is
# underestimated, because people err on hard pictures.
SUREST_SHARE = 1 / 3

# The predictions of the user's own model look in-sample when their mean doubt of the given labels
# is below this share of the doubt that the held-out probe has.
IN_SAMPLE_DOUBT = 0.1


@dataclass(frozen=True)
class LabelIssues:
    """What speaks against the labels.

    Attributes:
        quality: (n,) float32 in [0, 1], 0 wrong; NaN for unlabeled rows
        flagged: (n,) bool, likely wrong
        suggested: (n,) int64, the likeliest other class of a labeled row; -1 for unlabeled rows and
            where there is no other class
        confidence: (n,) float32, probability of the suggestion; NaN where there is none
        probe_suggested: (n,) int64, the class that the probe finds likeliest, -1 for unlabeled rows
        probe_confidence: (n,) float32, and its probability
        neighbors_suggested: (n,) int64, the class that most neighbours vote for, -1 where none may
        neighbors_confidence: (n,) float32, and its share of the votes
        against: (n, 5) int32, where the neighbours vote for another class than the label, the
            nearest ones outside the own duplicate group that have it; filled up with -1
        order: (num_labeled,) int64, rows: flagged ones first, each part with the worst first
        noise: (c, c) float64, estimated probability of the given label (column) for each true one
            (row); rows sum to 1
        overlaps: pairs of classes that are confused most, the most first
        expected_precision: estimated share of the flagged labels that are wrong, in [0, 1]; NaN
            when none is flagged
        class_counts: (c,) int64, labeled rows of each class
        class_flagged: (c,) int64, flagged ones among them
    """

    quality: np.ndarray
    flagged: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    probe_suggested: np.ndarray
    probe_confidence: np.ndarray
    neighbors_suggested: np.ndarray
    neighbors_confidence: np.ndarray
    against: np.ndarray
    order: np.ndarray
    noise: np.ndarray
    overlaps: tuple[ClassOverlap, ...]
    expected_precision: float
    class_counts: np.ndarray
    class_flagged: np.ndarray


@dataclass(frozen=True)
class ClassOverlap:
    """Two classes that are taken for each other.

    Attributes:
        first, second: class numbers, first < second
        count: estimated rows labeled as one of them that are the other
        share: of all labeled rows, in [0, 1]
    """

    first: int
    second: int
    count: int
    share: float


@dataclass(frozen=True)
class MultilabelIssues:
    """What speaks against rows that have any number of labels each.

    Attributes:
        quality: (n,) float32 in [0, 1], of all labels of a row together; NaN for skipped rows
        flagged: (n,) bool
        wrong: (n, c) bool, labels that are there and are likely wrong
        missing: (n, c) bool, labels that are absent and are likely right
        probabilities: (n, c) float32, held-out, of each label
        order: (num_judged,) int64, rows: flagged ones first, each part with the worst first
    """

    quality: np.ndarray
    flagged: np.ndarray
    wrong: np.ndarray
    missing: np.ndarray
    probabilities: np.ndarray
    order: np.ndarray


def find_label_issues(
    labels: np.ndarray,
    evidence: ClassEvidence,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    outliers: np.ndarray | None = None,
) -> LabelIssues:
    """Finds labels that are likely wrong.

    As many are flagged as cleanlab counts (``prune_by_noise_rate``), those of lowest quality, and
    beyond that any label beside which another one is far likelier. On all ground-truth sets, this
    has both a higher precision and a higher recall than the rows that cleanlab picks. What is
    flagged as an outlier is not flagged here: no class claims it.

    Args:
        labels: (n,) integers, -1 = unlabeled
        evidence: held-out probabilities, or ``check_predictions`` of a model's predictions
        graph: neighbours of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        outliers: (n,) bool, ``find_outliers(...).flagged``; None: not known

    Raises:
        ValueError: if the arrays do not fit each other
    """
    probabilities = evidence.probabilities
    num_rows, num_classes = probabilities.shape
    labels = np.asarray(labels, np.int64)
    groups = np.full(num_rows, -1) if groups is None else np.asarray(groups, np.int64)
    if not labels.shape == groups.shape == (num_rows,) or graph.num_rows != num_rows:
        raise ValueError("labels, evidence, graph and groups must be of the same rows")
    if outliers is not None and np.shape(outliers) != (num_rows,):
        raise ValueError(f"outliers must have one entry for each of {num_rows} rows")
    if num_rows and labels.max() >= num_classes:
        raise ValueError(f"Labels must be below {num_classes}")

    labeled = np.flatnonzero(labels >= 0)
    known = probabilities if len(labeled) == num_rows else probabilities[labeled]
    given = _given(known, labels[labeled])
    suggested = np.full(num_rows, -1)
    confidence = np.full(num_rows, np.nan, np.float32)
    ratio = np.ones(len(labeled))
    if num_classes > 1:
        suggested[labeled], confidence[labeled] = _likeliest_other(known, labels[labeled])
        ratio = given / np.maximum(given + confidence[labeled], 1e-30)
    quality = np.full(num_rows, np.nan, np.float32)
    # cleanlab's self-confidence, and how the label stands beside the likeliest other one. With half
    # the weight this is better than without on Caltech-101, where hard rows have a low confidence
    # in every class, and under heavy noise; under light noise it costs 0.003 average precision.
    quality[labeled] = given * np.sqrt(ratio)

    flagged = np.zeros(num_rows, bool)
    joint, count = _confident_joint(labels[labeled], known)
    if num_classes > 1 and len(labeled):
        lowest = np.lexsort((ratio, quality[labeled]))[:count]
        flagged[labeled[lowest]] = True
        flagged[labeled] &= ratio < 0.5
        flagged[labeled[ratio < SURE]] = True
        if outliers is not None:
            flagged &= ~outliers
    order = labeled[np.lexsort((labeled, quality[labeled], ~flagged[labeled]))]

    probe_suggested, probe_confidence = _witness(evidence.probe, labels)
    neighbors_suggested, neighbors_confidence = _witness(evidence.votes, labels)
    against = _against(labels, neighbors_suggested, graph, groups)
    silent = neighbors_confidence <= 1.0001 / num_classes
    if num_classes > 1:
        neighbors_suggested[silent] = -1
    counts = np.bincount(labels[labeled], minlength=num_classes)
    return LabelIssues(
        quality=quality,
        flagged=flagged,
        suggested=suggested,
        confidence=confidence,
        probe_suggested=probe_suggested,
        probe_confidence=probe_confidence,
        neighbors_suggested=neighbors_suggested,
        neighbors_confidence=neighbors_confidence,
        against=against,
        order=order,
        noise=_noise(joint),
        overlaps=_overlaps(joint, len(labeled)),
        expected_precision=_expected_precision(known, labels[labeled], int(flagged.sum())),
        class_counts=counts,
        class_flagged=np.bincount(labels[flagged], minlength=num_classes),
    )


def tells_classes_apart(evidence: ClassEvidence, labels: np.ndarray) -> bool:
    """Whether held-out evidence says more of the labels than the shares of the classes do.

    Args:
        evidence: of (n, c) rows and classes
        labels: (n,) integers, -1 = unlabeled
    """
    labeled = np.flatnonzero(labels >= 0)
    if len(labeled) == 0:
        return False
    given = _given(evidence.probabilities[labeled], labels[labeled]).astype(np.float64)
    shares = np.bincount(labels[labeled]) / len(labeled)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    loss = -np.log(np.maximum(given, 1e-12)).mean()
    return bool(loss < (1 - LEAST_GAIN) * entropy)


def find_multilabel_issues(
    label_sets: np.ndarray,
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    skipped: np.ndarray | None = None,
    seed: int | None = 51,
) -> MultilabelIssues:
    """Finds wrong and missing labels of rows that have any number of labels each.

    Every label is a question of its own, has it or not, answered by the evidence of
    ``class_probe``; cleanlab's ``multilabel_classification`` judges the answers.

    Args:
        label_sets: (n, c) bool, which labels a row has
        rows: (n, d) float32 unit rows
        graph: neighbours of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        skipped: (n,) bool, rows whose labels are not known; None: none

    Raises:
        ValueError: if the arrays do not fit each other or all rows are skipped
    """
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    label_sets = np.asarray(label_sets, bool)
    num_rows, num_classes = label_sets.shape
    judged = np.ones(num_rows, bool) if skipped is None else ~np.asarray(skipped, bool)
    if len(rows) != num_rows or judged.shape != (num_rows,):
        raise ValueError("label_sets, rows and skipped must be of the same length")
    probabilities = np.zeros((num_rows, num_classes), np.float32)
    for label in range(num_classes):
        answers = np.where(judged, label_sets[:, label].astype(np.int64), -1)
        evidence = held_out_probabilities(rows, answers, 2, graph, groups, seed)
        probabilities[:, label] = evidence.probabilities[:, 1]

    at = np.flatnonzero(judged)
    held_out = probabilities[at].astype(np.float64)
    quality = np.full(num_rows, np.nan, np.float32)
    issues = np.zeros((num_rows, num_classes), bool)
    # Only labels that some rows have and others have not can be judged.
    told = np.flatnonzero(label_sets[at].any(axis=0) & ~label_sets[at].all(axis=0))
    if len(told):
        # cleanlab refuses a single label; the same one twice has the same answer.
        told = np.repeat(told, 2) if len(told) == 1 else told
        listed = [np.flatnonzero(labels[told]).tolist() for labels in label_sets[at]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = find_multilabel_issues_per_class(listed, held_out[:, told], n_jobs=1)
            quality[at] = get_label_quality_scores(listed, held_out[:, told])
        issues[np.ix_(at, told)] = np.asarray(found, bool).reshape(len(at), len(told))
    else:
        quality[at] = 1
    # cleanlab counts per class; an answer that the evidence agrees with is no issue.
    issues &= label_sets != (probabilities > 0.5)
    flagged = issues.any(axis=1)
    return MultilabelIssues(
        quality=quality,
        flagged=flagged,
        wrong=issues & label_sets,
        missing=issues & ~label_sets,
        probabilities=probabilities,
        order=at[np.lexsort((at, quality[at], ~flagged[at]))],
    )


def check_predictions(
    predictions: np.ndarray, labels: np.ndarray, evidence: ClassEvidence
) -> tuple[ClassEvidence, str | None]:
    """Takes the predictions of a user's own model as evidence in place of the held-out probe.

    Args:
        predictions: (n, c) floats, probabilities, or logits, of which the softmax is taken: what
            holds negative values or does not sum to 1
        labels: (n,) integers, -1 = unlabeled
        evidence: held-out, of the same rows; its votes are kept as the second witness

    Returns:
        the evidence, and a warning when the model seems to have seen these labels in training

    Raises:
        ValueError: if the shape is wrong, or values are NaN or infinite
    """
    values = np.asarray(predictions)
    shape = evidence.probabilities.shape
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"Predictions must be numbers of shape {shape}, one per sample and class, not "
            f"{values.dtype} of shape {values.shape}"
        )
    values = values.astype(np.float64)
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise ValueError(
            f"The predictions of {broken.sum()} of {len(values)} samples hold NaN or infinite "
            f"values, the first one in row {int(broken.argmax())}"
        )
    if len(values) and ((values < 0).any() or (np.abs(values.sum(axis=1) - 1) > 0.01).any()):
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values /= values.sum(axis=1, keepdims=True)
    probabilities = values.astype(np.float32)
    labels = np.asarray(labels, np.int64)
    taken = ClassEvidence(probabilities, probabilities, evidence.votes)
    return taken, _in_sample_warning(values, evidence.probabilities, labels)


def _in_sample_warning(
    predicted: np.ndarray, held_out: np.ndarray, labels: np.ndarray
) -> str | None:
    labeled = np.flatnonzero(labels >= 0)
    if len(labeled) == 0:
        return None
    doubt = 1 - _given(predicted[labeled], labels[labeled]).mean()
    expected = 1 - _given(held_out[labeled], labels[labeled]).mean()
    accuracy = (predicted[labeled].argmax(axis=1) == labels[labeled]).mean()
    if doubt >= IN_SAMPLE_DOUBT * expected or accuracy < 0.99:
        return None
    return (
        f"The predictions agree with {100 * accuracy:.1f} % of the labels, surer than is plausible "
        "for samples that the model has not seen in training. In-sample predictions hide label "
        "errors; use cross-validated ones, or leave predictions_field out"
    )


def _given(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(labels)), labels]


def _likeliest_other(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    suggested = others.argmax(axis=1)
    return suggested, _given(others, suggested)


def _witness(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    said = probabilities.argmax(axis=1)
    confidence = _given(probabilities, said).astype(np.float32)
    return np.where(labels >= 0, said, -1), np.where(labels >= 0, confidence, np.float32(np.nan))


def _against(
    labels: np.ndarray, voted: np.ndarray, graph: NeighborGraph, groups: np.ndarray
) -> np.ndarray:
    against = np.full((len(labels), MAX_AGAINST), -1, np.int32)
    rows = np.flatnonzero((voted >= 0) & (voted != labels) & (labels >= 0))
    neighbors = graph.indices[rows]
    speaks = labels[neighbors] == voted[rows, None]
    speaks &= (groups[rows, None] < 0) | (groups[neighbors] != groups[rows, None])
    rank = speaks.cumsum(axis=1) - 1
    at, column = np.nonzero(speaks & (rank < MAX_AGAINST))
    against[rows[at], rank[at, column]] = neighbors[at, column]
    return against


def _confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, int]:
    """What cleanlab estimates, of the classes that some row is labeled with.

    Returns:
        (c, c) float64, estimated rows of each given label (row) and true one (column), and how many
        labels are taken for wrong
    """
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues as find

    num_classes = probabilities.shape[1]
    joint = np.zeros((num_classes, num_classes))
    classes, renumbered = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        joint[classes, classes] = len(labels)
        return joint, 0
    if len(classes) < num_classes:
        probabilities = probabilities[:, classes]
        probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-30)
    with warnings.catch_warnings():
        # About classes of too few members to judge, for which it flags none.
        warnings.simplefilter("ignore")
        confident = compute_confident_joint(renumbered, probabilities)
        wrong = find(renumbered, probabilities, confident_joint=confident, n_jobs=1)
    joint[np.ix_(classes, classes)] = confident
    return joint, int(wrong.sum())


def _noise(joint: np.ndarray) -> np.ndarray:
    true = joint.sum(axis=0)
    given = joint.T / np.maximum(true, 1e-30)[:, None]
    return np.where(true[:, None] > 0, given, np.eye(len(true)))


def _expected_precision(probabilities: np.ndarray, labels: np.ndarray, num_flagged: int) -> float:
    """Estimated share of the flagged labels that are wrong; NaN when none is flagged.

    Where the evidence is surest, disagreement is label noise; elsewhere, it is the probe's own
    mistakes as well. So the noise of the surest rows is taken for that of all.
    """
    if num_flagged == 0:
        return float("nan")
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    surest = surest[: max(1, round(len(labels) * SUREST_SHARE))]
    noise = (probabilities[surest].argmax(axis=1) != labels[surest]).mean()
    return float(min(1.0, noise * len(labels) / num_flagged))


def _overlaps(joint: np.ndarray, num_labeled: int) -> tuple[ClassOverlap, ...]:
    both = np.triu(joint + joint.T, 1)
    firsts, seconds = np.nonzero(both)
    worst = np.lexsort((seconds, firsts, -both[firsts, seconds]))[:MAX_OVERLAPS]
    pairs = zip(firsts[worst].tolist(), seconds[worst].tolist())
    return tuple(
        ClassOverlap(first, second, round(both[first, second]), both[first, second] / num_labeled)
        for first, second in pairs
    )
