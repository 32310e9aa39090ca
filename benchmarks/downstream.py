"""Whether a classifier gets better by what is found: test accuracy before and after.

    python benchmarks/downstream.py [DATA] [--part labels|choices|duplicates] [--sets …]
                                    [--learner linear|cnn] [--seeds 5]

DATA is the folder with caltech101 and cifar10n, by default ../shared/data. The learners are
logistic regression on the embeddings, and a small network trained from scratch on 32 x 32 pixels.
Labels that somebody looks at become the true ones; nothing else of a training set changes. A test
set keeps its true labels and is seen by nothing but the learner. Given are means over the seeds and
their standard deviation; a seed draws the samples, the noise, and what the learner draws.
"""

from __future__ import annotations

import argparse
import functools
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import print_row
from curation import k_center
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.label_issues import LabelIssues, find_label_issues
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from fiftyone_embedding_quality.analysis.selection import select_rows
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from label_issues import LabelSet, logistic_regression, peer_datalab, read_rows, read_vectors
from PIL import Image
from sklearn.decomposition import TruncatedSVD

SIDE, EPOCHS, BATCH = 32, 10, 64

# Dimensions that the embeddings of Caltech-101 are reduced to: those of CIFAR-10 are, too.
DIM = 256

# Images that are trained on, and shares of them that somebody looks at.
TRAINED, REVIEWED = 2000, (0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Images:
    """Images with embeddings: (n, d) float32 unit rows, (n,) int64 labels, and how to read them."""

    rows: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]
    read: Callable[[str], Image.Image]

    def take(self, which: np.ndarray) -> Images:
        files = tuple(self.files[place] for place in which)
        return replace(self, rows=self.rows[which], labels=self.labels[which], files=files)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """(n, 3, 32, 32) float32."""
        small = [self.read(file).convert("RGB").resize((SIDE, SIDE)) for file in self.files]
        return np.stack([np.asarray(one, np.float32) for one in small]).transpose(0, 3, 1, 2) / 255


@dataclass(frozen=True)
class Task:
    """Images to train on, with the labels they came with, and images to test on."""

    train: Images
    given: np.ndarray
    test: Images

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1


@dataclass(frozen=True)
class Treated:
    """What a treatment leaves to train on, how many labels were looked at and were wrong."""

    kept: np.ndarray
    labels: np.ndarray
    looked_at: int = 0
    mended: int = 0


# Sets


@functools.cache
def caltech(data: Path) -> Images:
    folder = data / "caltech101"
    samples = [one for one in read_rows(folder / "samples.csv") if one["is_background"] == "0"]
    names = sorted({one["class"] for one in samples})
    rows = read_vectors(folder / "embeddings_efficientnet_lite0.npz", samples)
    return Images(
        rows=unit_rows(TruncatedSVD(DIM, random_state=0).fit_transform(rows)).rows,
        labels=np.array([names.index(one["class"]) for one in samples]),
        files=tuple(one["file"] for one in samples),
        read=lambda file: Image.open(folder / file),
    )


@functools.cache
def cifar(data: Path, split: str, column: str) -> Images:
    folder = data / "cifar10n"
    archive = zipfile.ZipFile(folder / "images.zip")
    samples = read_rows(folder / f"{split}_labels.csv")
    samples = [one for one in samples if one.get("verified_error", "0") == "0"]
    return Images(
        rows=read_vectors(folder / "embeddings_efficientnet_lite0_pca256.npz", samples),
        labels=np.array([int(one[column]) for one in samples]),
        files=tuple(one["file"] for one in samples),
        read=lambda file: Image.open(io.BytesIO(archive.read(file))),
    )


def symmetric(labels: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """A fifth of the labels becomes any other class."""
    wrong = random.random(len(labels)) < 0.2
    return np.where(wrong, (labels + random.integers(1, classes, len(labels))) % classes, labels)


def pairwise(labels: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """A fifth of the labels of each class becomes one other class, always the same."""
    order = random.permutation(classes)
    other = np.empty(classes, np.int64)
    other[order] = np.roll(order, 1)
    return np.where(random.random(len(labels)) < 0.2, other[labels], labels)


def tasks(data: Path) -> dict[str, Callable[[int], Task]]:
    """What makes a task of a seed, by name."""

    def of_caltech(noise: Callable | None, seed: int) -> Task:
        random = np.random.default_rng(seed)
        every = caltech(data)
        order = random.permutation(len(every.labels))
        train, test = (every.take(half) for half in np.array_split(order, 2))
        given = noise(train.labels, 51, random) if noise else train.labels
        return Task(train, given, test)

    def of_cifar(noise: Callable | str | None, seed: int) -> Task:
        random = np.random.default_rng(seed)
        every = cifar(data, "train", "clean_label")
        which = random.permutation(len(every.labels))[:TRAINED]
        train = every.take(which)
        given = train.labels
        if isinstance(noise, str):
            given = cifar(data, "train", noise).labels[which]
        elif noise:
            given = noise(given, 10, random)
        return Task(train, given, cifar(data, "test", "given_label"))

    return {
        "caltech101": functools.partial(of_caltech, None),
        "caltech101 symmetric": functools.partial(of_caltech, symmetric),
        "caltech101 pairwise": functools.partial(of_caltech, pairwise),
        "cifar10": functools.partial(of_cifar, None),
        "cifar10 symmetric": functools.partial(of_cifar, symmetric),
        "cifar10 pairwise": functools.partial(of_cifar, pairwise),
        "cifar10n aggre": functools.partial(of_cifar, "aggre_label"),
        "cifar10n random1": functools.partial(of_cifar, "random_label1"),
        "cifar10n worse": functools.partial(of_cifar, "worse_label"),
    }


# Learners


def linear(train: Images, labels: np.ndarray, test: Images, seed: int) -> float:
    """Accuracy of scikit-learn's logistic regression, on standardized embeddings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    return float((model.fit(train.rows, labels).predict(test.rows) == test.labels).mean())


def cnn(train: Images, labels: np.ndarray, test: Images, seed: int) -> float:
    """Accuracy of three convolutions that are trained from scratch, with mirrored images."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    def block(given: int, made: int) -> list[nn.Module]:
        return [
            nn.Conv2d(given, made, 3, padding=1, bias=False),
            nn.BatchNorm2d(made),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    classes = int(max(labels.max(), test.labels.max())) + 1
    model = nn.Sequential(
        *block(3, 16), *block(16, 32), *block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, classes),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    images, targets = torch.from_numpy(train.pixels - 0.5), torch.from_numpy(labels)
    # As many steps on little data as on much: what is compared is the data.
    steps = EPOCHS * TRAINED // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(images))])
        now, order = order[:BATCH], order[BATCH:]
        batch = images[now].to(memory_format=torch.channels_last)
        batch = torch.where((torch.rand(BATCH) < 0.5)[:, None, None, None], batch.flip(3), batch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets[now]).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(test.pixels - 0.5).split(500)
        said = torch.cat([model(part).argmax(dim=1) for part in parts]).numpy()
    return float((said == test.labels).mean())


LEARNERS = {"linear": linear, "cnn": cnn}


# Labels


def found_issues(task: Task) -> LabelIssues:
    rows, given = task.train.rows, task.given
    graph = neighbor_graph(rows)
    evidence = held_out_probabilities(rows, given, task.classes, graph)
    outliers = find_outliers(rows, graph, None, given, evidence.probabilities)
    return find_label_issues(given, evidence, graph, None, outliers.flagged)


def label_treatments(task: Task, seed: int, shares: tuple[float, ...]) -> Iterator:
    """The name of each treatment, and what it leaves."""
    from cleanlab.rank import get_label_quality_scores

    given, truth, classes = task.given, task.train.labels, task.classes
    every, none = np.arange(len(given)), np.full(len(given), -1)
    found = found_issues(task)
    no, yes = np.zeros(len(given), bool), np.ones(len(given), bool)
    labeled = LabelSet(task.train.rows, given, truth, given != truth, yes, no, none, classes)
    datalab = peer_datalab(labeled)
    confident = get_label_quality_scores(given, logistic_regression(task.train.rows, given))
    drawn = np.random.default_rng(seed + 1000).permutation(len(given))
    orders = {
        "find_label_issues": found.order,
        "Datalab": np.argsort(datalab.quality, kind="stable"),
        "5-fold self-confidence": np.argsort(confident, kind="stable"),
        "random": drawn,
    }
    num_flagged, of_datalab = int(found.flagged.sum()), int(datalab.flagged.sum())

    def reviewed(which: np.ndarray) -> Treated:
        labels = given.copy()
        labels[which] = truth[which]
        return Treated(every, labels, len(which), int((labels != given).sum()))

    yield "as given", Treated(every, given)
    yield "true labels", Treated(every, truth, 0, int((truth != given).sum()))
    yield "flagged dropped", Treated(every[~found.flagged], given)
    yield "Datalab's flagged dropped", Treated(every[~datalab.flagged], given)
    yield "as many at random dropped", Treated(np.sort(drawn[num_flagged:]), given)
    yield (
        "suggestions accepted unseen",
        Treated(every, np.where(found.flagged, found.suggested, given)),
    )
    yield (
        "Datalab's accepted unseen",
        Treated(every, np.where(datalab.flagged, datalab.suggested, given)),
    )
    yield "all flagged reviewed", reviewed(orders["find_label_issues"][:num_flagged])
    yield "all Datalab's flagged reviewed", reviewed(orders["Datalab"][:of_datalab])
    for share in shares:
        for name, order in orders.items():
            yield f"{share:.0%} reviewed: {name}", reviewed(order[: round(share * len(given))])


def labels(name: str, make: Callable[[int], Task], learner: str, seeds: int) -> None:
    """Accuracy by what becomes of the labels; points gained per 100 labels looked at."""
    shares = REVIEWED if learner == "linear" else REVIEWED[-1:]
    told: dict[str, list[tuple[float, int, int]]] = {}
    for seed in range(seeds):
        task = make(seed)
        for what, treated in label_treatments(task, seed, shares):
            train, to = task.train.take(treated.kept), treated.labels[treated.kept]
            accuracy = LEARNERS[learner](train, to, task.test, seed)
            told.setdefault(what, []).append((accuracy, treated.looked_at, treated.mended))
    print_row(f"{name}, {learner}", "accuracy", "gain", "looked at", "mended", "per 100")
    before = np.array([row[0] for row in told["as given"]])
    for what, rows in told.items():
        accuracy, looked_at, mended = np.array(rows).T
        gain = 100 * (accuracy - before)
        per = f"{(100 * gain / looked_at).mean():.2f}" if looked_at.all() else ""
        print_row(
            f"  {what}", spread(100 * accuracy), spread(gain), round(looked_at.mean()),
            round(mended.mean()), per,
        )  # fmt: skip
    print()


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f} ± {values.std(ddof=1) if len(values) > 1 else 0:.1f}"


# Choices


def choices(name: str, make: Callable[[int], Task], seeds: int) -> None:
    """Accuracy of the network by which samples are labeled; ``curation.py`` has the linear one."""
    print_row(f"{name}, cnn", "labels", "random", "k-center", "select_samples")
    told: dict[int, list[list[float]]] = {}
    for seed in range(seeds):
        task = make(seed)
        train, size = task.train, len(task.train.labels)
        counts = [size // 10, size // 4, size // 2]
        graph = neighbor_graph(train.rows)
        orders = (
            np.random.default_rng(seed).permutation(size),
            k_center(train.rows, max(counts), seed),
            select_rows(train.rows, graph, max(counts)).order,
        )
        for count in counts:
            parts = [train.take(order[:count]) for order in orders]
            row = [cnn(part, part.labels, task.test, seed) for part in parts]
            told.setdefault(count, []).append(row)
    for count, rows in told.items():
        print_row("", count, *(spread(100 * column) for column in np.array(rows).T))
    print()


# Duplicates


def duplicates(data: Path, seeds: int) -> None:
    """Caltech-101 with 208 planted copies: what they do to training, and to a score."""
    from fiftyone_embedding_quality.analysis.duplicates import find_duplicates
    from fiftyone_embedding_quality.pictures.file_copies import exact_copies
    from fiftyone_embedding_quality.pictures.small_images import ImageOrPatch, read_small_images

    folder = data / "caltech101"
    samples = [one for one in read_rows(folder / "qa_samples.csv") if one["issue"] != "outlier"]
    names = sorted({one["true_label"] for one in samples})
    every = Images(
        rows=read_vectors(folder / "embeddings_efficientnet_lite0.npz", samples),
        labels=np.array([names.index(one["true_label"]) for one in samples]),
        files=tuple(one["file"] for one in samples),
        read=lambda file: Image.open(folder / file),
    )
    small = read_small_images([ImageOrPatch(str(folder / file)) for file in every.files])
    found = find_duplicates(small, exact_copies(small), every.rows, neighbor_graph(every.rows))
    group, keep = found.group, found.keep
    told = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        # Halves at random, as one splits who knows of no duplicates; then by groups.
        train = random.random(len(keep)) < 0.5
        leaked = ~train & (group >= 0) & np.isin(group, group[train & (group >= 0)])
        test = every.take(np.flatnonzero(~train))
        alone = every.take(np.flatnonzero(~train & ~leaked))
        lone = every.take(np.flatnonzero(leaked))
        used = np.flatnonzero(train)
        redundant = redundant_in(group, used)
        dropped = np.setdiff1d(used, redundant)
        as_many = np.sort(random.permutation(used)[: len(dropped)])
        row = [
            linear(every.take(rows), every.labels[rows], on, seed)
            for rows, on in (
                (used, test), (used, lone), (used, alone), (dropped, alone), (as_many, alone)
            )
        ]  # fmt: skip
        told.append([*row, leaked.sum() / 100, len(redundant) / 100])
    heads = (
        "test set as split", "its leaked images", "without leaks", "redundant dropped",
        "as many at random dropped", "leaked images", "redundant images",
    )  # fmt: skip
    print_row("caltech101 with copies, linear", "")
    for head, column in zip(heads, np.array(told).T):
        print_row(f"  {head}", spread(100 * column))


def redundant_in(group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """All but the first of every duplicate group among these rows."""
    grouped = rows[group[rows] >= 0]
    first = np.unique(group[grouped], return_index=True)[1]
    return np.setdiff1d(grouped, grouped[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--part", choices=("labels", "choices", "duplicates"))
    parser.add_argument("--learner", choices=tuple(LEARNERS))
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    made = tasks(options.data)
    if options.part in (None, "labels"):
        for name in options.sets or made:
            for learner in [options.learner] if options.learner else LEARNERS:
                labels(name, made[name], learner, options.seeds)
    if options.part in (None, "choices"):
        for name in options.sets or ("caltech101", "cifar10"):
            choices(name, made[name], options.seeds)
    if options.part in (None, "duplicates"):
        duplicates(options.data, options.seeds)


if __name__ == "__main__":
    main()
