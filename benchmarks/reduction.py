"""What reduced embeddings keep, and what is left of a camera that is taken out of them.

    python benchmarks/reduction.py DATA [--images 40] [--size 100000]

Caltech-101 and CIFAR-10: the share of the nearest neighbors that stay, held-out balanced accuracy
of the classes, seconds. Then images of Caltech-101 of which every other one of each class has a
color cast: how well that is predicted before and after, and the classes. Last, what it costs to
reduce clustered vectors of that size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from common import clustered_vectors, interleaved, print_row
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.erasure import erase_field
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.reduction import (
    METHODS,
    Reducer,
    balanced_accuracy,
    fit_encoder,
    kept_neighbors,
)
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from label_sets import read_rows, read_source
from PIL import Image

DIMS = (16, 64, 256)

# What the camera does to red, green and blue.
CAST = (1.5, 1.0, 0.4)


def accuracy(rows: np.ndarray, labels: np.ndarray, graph: NeighborGraph) -> float:
    found = held_out_probabilities(rows, labels, int(labels.max()) + 1, graph)
    return balanced_accuracy(found.probabilities, labels)


def print_methods(rows: np.ndarray, labels: np.ndarray) -> None:
    graph = neighbor_graph(rows)
    print_row(f"  all {rows.shape[1]}", "", 1.0, accuracy(rows, labels, graph), "")
    for num_dims in (one for one in DIMS if one < rows.shape[1]):
        for method in METHODS:
            started = time.perf_counter()
            fitted = fit_encoder(rows, method, num_dims)
            seconds = time.perf_counter() - started
            reduced = unit_rows(fitted.encoder.apply(rows)).rows
            after = neighbor_graph(reduced)
            kept = kept_neighbors(graph, after)
            row = (fitted.explained, kept, accuracy(reduced, labels, after), seconds)
            print_row(f"  {method} {num_dims}", *(f"{one:.3f}" for one in row))


def cast_images(data: Path, per_class: int, folder: Path) -> tuple[list[Path], np.ndarray, list]:
    """Images of Caltech-101, whether each has the cast, and its class."""
    count: Counter = Counter()
    files, cast, classes = [], [], []
    for sample in read_rows(data / "caltech101" / "samples.csv"):
        name = sample["class"]
        if sample["is_background"] == "1" or count[name] == per_class:
            continue
        image = Image.open(data / "caltech101" / sample["file"]).convert("RGB")
        if count[name] % 2:
            pixels = np.asarray(image, np.float32) * CAST
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        files.append(folder / f"{len(files)}.png")
        image.save(files[-1])
        cast.append(count[name] % 2)
        classes.append(name)
        count[name] += 1
    return files, np.array(cast), classes


def print_camera(data: Path, per_class: int) -> None:
    from fiftyone_embedding_quality.embedding.pipeline import embed_images
    from fiftyone_embedding_quality.embedding.registry import load_model
    from fiftyone_embedding_quality.storage.target import Item

    with tempfile.TemporaryDirectory() as folder:
        files, cast, classes = cast_images(data, per_class, Path(folder))
        items = [Item(str(n), str(file), (str(n),), None) for n, file in enumerate(files)]
        found: dict[str, np.ndarray] = {}
        for batch in embed_images(load_model("cnn"), items, None):
            found |= batch.vectors
    rows = unit_rows(np.stack([found[item.sample_id] for item in items])).rows
    labels = np.unique(classes, return_inverse=True)[1]
    erased = erase_field(rows, cast)
    after = unit_rows(erased.erasure.apply(rows)).rows
    print_row("  cast is predicted, new images", *map(_told, (erased.before, erased.after)))
    pair = [accuracy(each, labels, neighbor_graph(each)) for each in (rows, after)]
    print_row("  classes", *(f"{one:.3f}" for one in pair))
    print_row("  directions, cells, images", len(erased.erasure.read), erased.cells, len(rows))


def _told(prediction: object) -> str:
    return f"{prediction.balanced_accuracy:.3f}"


def print_costs(size: int) -> None:
    rows = unit_rows(clustered_vectors(size)).rows
    values = np.random.default_rng(0).integers(0, 2, size)
    fit_encoder(rows[:1000], "autoencoder", 8)  # imports torch, whose memory is no cost of a call
    calls = {
        method: lambda method=method: Reducer(encoder=fit_encoder(rows, method, 64).encoder).place(
            rows
        )
        for method in METHODS
    }
    calls["taking out a field"] = lambda: erase_field(rows, values).erasure.apply(rows)
    for name, cost in interleaved(calls, 1).items():
        seconds = (f"{cost.seconds:.1f} s", f"{cost.cpu_seconds:.1f} CPU-s")
        print_row(f"  {name}", *seconds, f"{cost.peak_mib:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=40, help="of each class, for the camera")
    parser.add_argument("--size", type=int, default=100_000)
    options = parser.parse_args()
    print_row("", "explained", "neighbors", "accuracy", "seconds")
    for source in ("caltech", "cifar"):
        print(source)
        print_methods(*read_source(options.data, source))
    print("caltech, a color cast on half of each class")
    print_row("", "before", "after")
    print_camera(options.data, options.images)
    print(f"{options.size:,} x 512, to 64")
    print_costs(options.size)


if __name__ == "__main__":
    main()
