"""Sets of labels with known truth, on which thin evidence, imbalance and noise are tried.

Real embeddings (Caltech-101, CIFAR-10 with CIFAR-10N's human labels, scikit-learn's digits) and
normal distributions; every set is drawn by its seed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from fiftyone_embedding_quality.analysis.vectors import unit_rows


@dataclass(frozen=True)
class NoisySet:
    """Rows with given and true labels.

    Attributes:
        rows: (n, d) float32 unit rows
        labels, truth: (n,) int64, class numbers below ``num_classes``
        source: what the rows are from; sets of one source are left out together
    """

    rows: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    num_classes: int
    source: str

    @property
    def wrong(self) -> np.ndarray:
        return self.labels != self.truth


Source = tuple[np.ndarray, np.ndarray]


def label_sets(data: Path) -> Iterator[tuple[str, Callable[[], NoisySet]]]:
    """Names of the sets, and what makes each."""
    for seed in range(3):
        for per_class in (10, 20, 50):
            yield f"cifar clean {per_class} #{seed}", few(data, "cifar", per_class, seed)
        for per_class in (2, 3, 5):
            yield f"caltech clean {per_class} #{seed}", few(data, "caltech", per_class, seed)
    for per_class in (3, 10, 50, 150):
        yield f"digits clean {per_class}", few(data, "digits", per_class, 0)
    for per_class in (200, 1000):
        yield f"cifar clean {per_class}", few(data, "cifar", per_class, 0)
    for per_class in (10, 30):
        yield f"caltech clean {per_class}", few(data, "caltech", per_class, 0)
    yield "caltech clean all", few(data, "caltech", 10_000, 0)
    for classes, per_class, spread in ((2000, 2, 0.9), (500, 4, 0.9), (300, 10, 1.2), (20, 100, 2)):
        yield f"normal clean {classes} x {per_class}", normal(classes, per_class, spread)
    for seed in range(2):
        yield f"cifar 10:1 clean #{seed}", imbalanced(data, "cifar", 500, 50, seed)
    yield "cifar 100:1 clean", imbalanced(data, "cifar", 2000, 20, 0)
    yield "cifar 2000 beside 8 clean", imbalanced(data, "cifar", 2000, 8, 1)
    yield "digits 150 beside 8 clean", imbalanced(data, "digits", 150, 8, 0)
    yield "caltech 200 beside 5 clean", imbalanced(data, "caltech", 200, 5, 0)
    for source, per_class in (("cifar", 400), ("caltech", 10_000), ("digits", 150)):
        for share in (0.1, 0.2, 0.4):
            name = f"{source} pairwise {share:.0%}"
            yield name, noisy(few(data, source, per_class, 1), pairwise, share)
        for share in (0.02, 0.05, 0.1, 0.3):
            name = f"{source} uniform {share:.0%}"
            yield name, noisy(few(data, source, per_class, 2), uniform, share)
    for source, per_class in (("cifar", 20), ("cifar", 50), ("caltech", 5), ("digits", 20)):
        for share in (0.05, 0.15):
            name = f"{source} {per_class} uniform {share:.0%}"
            yield name, noisy(few(data, source, per_class, 3), uniform, share)
    yield "cifar 10:1 uniform 10%", noisy(imbalanced(data, "cifar", 500, 50, 2), uniform, 0.1)
    yield (
        "caltech 200 beside 5 uniform 5%",
        noisy(imbalanced(data, "caltech", 200, 5, 1), uniform, 0.05),
    )
    for source, per_class in (("cifar", 200), ("caltech", 50), ("digits", 150)):
        yield f"{source} half of a class", noisy(few(data, source, per_class, 4), half, 0.5)
    yield "normal half of a class", noisy(normal(6, 20, 0.5), half, 0.5)
    for source, seed in (("caltech", 1), ("caltech", 2), ("cifar", 1), ("cifar", 2)):
        for mixed in (0.0, 0.2, 0.4):
            clean = long_tail(data, source, mixed, seed)
            name = f"{source} long tail, {mixed:.0%} of the classes of any look #{seed}"
            yield f"{name} clean", clean
            yield f"{name} 4%", noisy(clean, among_large, 0.04)
    for column in ("clean_label", "aggre_label", "random_label1", "worse_label"):
        yield f"cifar10n {column}", human(data, column, 10_000)
    for column in ("aggre_label", "worse_label"):
        yield f"cifar10n {column} 1000", human(data, column, 1000)


def few(data: Path, source: str, per_class: int, seed: int) -> Callable[[], NoisySet]:
    """So many of each class, or all that there are, with their true labels."""

    def make() -> NoisySet:
        rows, truth = read_source(data, source)
        rng = np.random.default_rng(seed)
        chosen = [_some(rng, truth == label, per_class) for label in range(truth.max() + 1)]
        return _clean(rows, truth, np.concatenate(chosen), source)

    return make


def imbalanced(data: Path, source: str, many: int, few_: int, seed: int) -> Callable[[], NoisySet]:
    """Half of the classes have many rows, half have few; true labels."""

    def make() -> NoisySet:
        rows, truth = read_source(data, source)
        rng = np.random.default_rng(seed)
        classes = truth.max() + 1
        large = rng.permutation(classes) < classes // 2
        chosen = [_some(rng, truth == c, many if large[c] else few_) for c in range(classes)]
        return _clean(rows, truth, np.concatenate(chosen), source)

    return make


def long_tail(data: Path, source: str, mixed: float, seed: int) -> Callable[[], NoisySet]:
    """Sizes by Zipf's law from 300 down to 2; a share of the classes has rows of any look.

    So are patches of tables, or of whatever is at the edge of other objects: right labels that no
    embedding predicts. Classes of CIFAR-10 are cut into eight that look different.
    """

    def make() -> NoisySet:
        from sklearn.cluster import KMeans

        rows, truth = read_source(data, source)
        rng = np.random.default_rng(seed)
        if source == "cifar":
            parts = np.zeros(len(truth), np.int64)
            for label in range(truth.max() + 1):
                own = truth == label
                parts[own] = KMeans(8, random_state=0, n_init=1).fit_predict(rows[own])
            truth = 8 * truth + parts
        order = rng.permutation(truth.max() + 1)
        sizes = np.maximum(300 / np.arange(1, len(order) + 1) ** 0.9, 2).astype(int)
        free, chosen = np.ones(len(truth), bool), []
        for place, label in enumerate(order):
            of_any_look = rng.random() < mixed and place > 0
            chosen.append(
                _some(rng, free if of_any_look else free & (truth == label), sizes[place])
            )
            free[chosen[-1]] = False
        labels = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
        picked = np.concatenate(chosen)
        return NoisySet(rows[picked], labels, labels, len(chosen), source)

    return make


def normal(classes: int, per_class: int, spread: float) -> Callable[[], NoisySet]:
    """Normal distributions around random centers in 64 dimensions."""

    def make() -> NoisySet:
        rng = np.random.default_rng(14)
        centers = rng.standard_normal((classes, 64))
        truth = np.repeat(np.arange(classes), per_class)
        rows = centers[truth] + spread * rng.standard_normal((len(truth), 64))
        return _clean(unit_rows(rows).rows, truth, np.arange(len(truth)), "normal")

    return make


def human(data: Path, column: str, count: int) -> Callable[[], NoisySet]:
    """The first rows of CIFAR-10N."""

    def make() -> NoisySet:
        rows, samples = _cifar(data)
        labels = np.array([int(sample[column]) for sample in samples[:count]])
        truth = np.array([int(sample["clean_label"]) for sample in samples[:count]])
        return NoisySet(rows[:count], labels, truth, 10, "cifar")

    return make


def noisy(make: Callable[[], NoisySet], noise: Callable, share: float) -> Callable[[], NoisySet]:
    def make_noisy() -> NoisySet:
        clean = make()
        labels = noise(clean, share, np.random.default_rng(7))
        return NoisySet(clean.rows, labels, clean.truth, clean.num_classes, clean.source)

    return make_noisy


def uniform(clean: NoisySet, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of all rows under any other class."""
    labels = clean.truth.copy()
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, clean.num_classes, len(wrong))) % (
        clean.num_classes
    )
    return labels


def among_large(clean: NoisySet, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of all rows, all of classes with 14 rows or more, under another such class."""
    labels = clean.truth.copy()
    large = np.flatnonzero(np.bincount(labels) >= 14)
    wrong = rng.choice(
        np.flatnonzero(np.isin(labels, large)), round(share * len(labels)), replace=False
    )
    for row in wrong:
        labels[row] = rng.choice(large[large != labels[row]])
    return labels


def pairwise(clean: NoisySet, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of all rows under the class whose mean is most similar to that of their own."""
    labels = clean.truth.copy()
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    labels[wrong] = most_similar(clean)[labels[wrong]]
    return labels


def half(clean: NoisySet, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the first class under the class most similar to it."""
    labels = clean.truth.copy()
    own = np.flatnonzero(labels == 0)
    labels[rng.choice(own, round(share * len(own)), replace=False)] = most_similar(clean)[0]
    return labels


def most_similar(clean: NoisySet) -> np.ndarray:
    means = np.stack([clean.rows[clean.truth == c].mean(axis=0) for c in range(clean.num_classes)])
    means -= clean.rows.mean(axis=0)
    means = unit_rows(means).rows
    similar = means @ means.T
    np.fill_diagonal(similar, -2)
    return similar.argmax(axis=1)


def read_source(data: Path, source: str) -> Source:
    """Rows (n, d) and true labels (n,)."""
    return {"cifar": _clean_cifar, "caltech": _caltech, "digits": _digits}[source](data)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_vectors(path: Path, samples: list[dict[str, str]]) -> np.ndarray:
    stored = np.load(path)
    place = {file: row for row, file in enumerate(stored["files"].tolist())}
    return unit_rows(stored["embeddings"][[place[sample["file"]] for sample in samples]]).rows


@lru_cache
def _cifar(data: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    samples = read_rows(data / "cifar10n" / "train_labels.csv")
    path = data / "cifar10n" / "embeddings_efficientnet_lite0_pca256.npz"
    return read_vectors(path, samples), samples


def _clean_cifar(data: Path) -> Source:
    rows, samples = _cifar(data)
    return rows, np.array([int(sample["clean_label"]) for sample in samples])


@lru_cache
def _caltech(data: Path) -> Source:
    samples = read_rows(data / "caltech101" / "samples.csv")
    samples = [sample for sample in samples if sample["is_background"] == "0"]
    rows = read_vectors(data / "caltech101" / "embeddings_efficientnet_lite0.npz", samples)
    return rows, np.unique([sample["class"] for sample in samples], return_inverse=True)[1]


@lru_cache
def _digits(data: Path) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return unit_rows(digits.data).rows, digits.target.astype(np.int64)


def _some(rng: np.random.Generator, which: np.ndarray, count: int) -> np.ndarray:
    of = np.flatnonzero(which)
    return rng.choice(of, min(count, len(of)), replace=False)


def _clean(rows: np.ndarray, truth: np.ndarray, chosen: np.ndarray, source: str) -> NoisySet:
    truth = truth[chosen].astype(np.int64)
    return NoisySet(rows[chosen], truth, truth.copy(), int(truth.max()) + 1, source)
