"""Seconds and memory of each step of the analysis, and how both grow with the number of samples.

    python benchmarks/scale.py [--sizes 20000 50000 100000] [--classes 1000] [--folder scale]

Embeddings of 512 dimensions in classes of which some are alike, 5 % of the labels flipped. Each
step is a process of its own, which reads what the steps before have left in the folder: its peak
is that of the whole process, with what it reads. A row is printed as its step ends, and kept: the
same call goes on after the last step that ended. The exponent says how the CPU seconds have grown
since the size before: 1 with the samples, 2 with their pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import print_row

DIM = 512
FLIPPED = 0.05
BLOCK = 16_384


def make(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    """Embeddings as image models make them: a narrow cone, classes in pairs that are alike."""
    rng = np.random.default_rng(51)
    space = np.linalg.qr(rng.standard_normal((DIM, 96)))[0].T.astype(np.float32)
    falling = 1 / np.sqrt(np.arange(1, 97))
    falling = (falling / np.linalg.norm(falling)).astype(np.float32)
    centers = 0.6 * rng.standard_normal((classes, 96), dtype=np.float32) * falling
    centers[1::2] = 0.7 * centers[: len(centers[1::2]) * 2 : 2] + 0.7 * centers[1::2]
    cone = rng.standard_normal(DIM, dtype=np.float32)
    cone *= 0.6 / np.linalg.norm(cone)
    truth = rng.integers(0, classes, size)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (size, DIM))
    for start in range(0, size, BLOCK):
        of = truth[start : start + BLOCK]
        within = 0.55 * rng.standard_normal((len(of), 96), dtype=np.float32) * falling
        block = (centers[of] + within) @ space + cone
        block += 0.012 * rng.standard_normal(block.shape, dtype=np.float32)
        vectors[start : start + len(of)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    labels = truth.copy()
    flipped = rng.random(size) < FLIPPED
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, flipped.sum())) % classes
    np.save(folder / "truth.npy", truth)
    np.save(folder / "labels.npy", labels)
    return {}


def graph(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph

    found = neighbor_graph(np.load(folder / "vectors.npy", "r"), 30, options.method)
    np.save(folder / "indices.npy", found.indices)
    np.save(folder / "distances.npy", found.distances)
    return {"method": found.method, "recall": round(found.recall, 4)}


def duplicates(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.duplicate_candidates import near_candidates

    return {"candidates": len(near_candidates(_graph(folder)).pairs)}


def held_out(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities

    rows, labels = np.load(folder / "vectors.npy"), np.load(folder / "labels.npy")
    evidence = held_out_probabilities(rows, labels, classes, _graph(folder))
    for name in ("probabilities", "probe", "votes"):
        table = getattr(evidence, name)
        if isinstance(table, np.ndarray):
            np.save(folder / f"{name}.npy", table)
        else:
            np.savez(
                folder / f"{name}.npz",
                classes=table.classes,
                values=table.values,
                rest=table.rest,
            )
    said = evidence.probabilities.argmax(axis=1)
    return {"accuracy": round(float((said == np.load(folder / "truth.npy")).mean()), 4)}


def outliers(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.outliers import find_outliers

    rows, labels = np.load(folder / "vectors.npy", "r"), np.load(folder / "labels.npy")
    probabilities = _evidence(folder, classes).probabilities
    found = find_outliers(rows, _graph(folder), None, labels, probabilities)
    np.save(folder / "outliers.npy", found.flagged)
    return {"flagged": int(found.flagged.sum())}


def label_issues(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.label_issues import find_label_issues
    from sklearn.metrics import average_precision_score

    labels, evidence = np.load(folder / "labels.npy"), _evidence(folder, classes)
    flagged = np.load(folder / "outliers.npy")
    found = find_label_issues(labels, evidence, _graph(folder), None, flagged)
    wrong = labels != np.load(folder / "truth.npy")
    right = np.count_nonzero(found.flagged & wrong)
    return {
        "AP": round(float(average_precision_score(wrong, -found.quality)), 4),
        "precision": round(right / max(int(found.flagged.sum()), 1), 4),
        "recall": round(right / int(wrong.sum()), 4),
    }


def separability(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.separability import class_separability

    rows, labels = np.load(folder / "vectors.npy", "r"), np.load(folder / "labels.npy")
    names = tuple(map(str, range(classes)))
    probabilities = _evidence(folder, classes).probabilities
    told = class_separability(rows, labels, names, _graph(folder), probabilities)
    return {"balanced_accuracy": round(told.overall.balanced_accuracy, 4)}


def umap(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.umap_layout import umap_layout

    points = umap_layout(np.load(folder / "vectors.npy", "r"), _graph(folder)).points
    np.save(folder / "points.npy", points)
    return {}


def trust(folder: Path, size: int, classes: int, options: argparse.Namespace) -> dict:
    from fiftyone_embedding_quality.analysis.trust import plot_trust

    told = plot_trust(np.load(folder / "vectors.npy", "r"), np.load(folder / "points.npy"))
    return {"trustworthiness": round(told.trustworthiness, 4)}


STEPS = {
    "making the data": make,
    "neighbor graph": graph,
    "candidates of duplicates": duplicates,
    "held-out labels": held_out,
    "outliers": outliers,
    "label issues": label_issues,
    "separability": separability,
    "UMAP": umap,
    "trust of the UMAP": trust,
}


def _graph(folder: Path):
    from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph

    indices, distances = np.load(folder / "indices.npy"), np.load(folder / "distances.npy")
    return NeighborGraph(indices, distances, "read", 1.0)


def _evidence(folder: Path, classes: int):
    from fiftyone_embedding_quality.analysis.class_probe import ClassEvidence
    from fiftyone_embedding_quality.analysis.likely_classes import LikelyClasses

    tables = []
    for name in ("probabilities", "probe", "votes"):
        path = folder / f"{name}.npy"
        if path.exists():
            tables.append(np.load(path))
            continue
        kept = np.load(folder / f"{name}.npz")
        table = LikelyClasses(np.load(folder / "labels.npy"), classes, kept["classes"].shape[1])
        for part in ("classes", "values", "rest"):
            setattr(table, part, kept[part])
        tables.append(table)
    return ClassEvidence(*tables)


def run_step(name: str, folder: Path, size: int, options: argparse.Namespace) -> dict:
    """What a step costs, and what it found, as a process of its own says."""
    told = {"step": name, "folder": folder, "size": size}
    told |= {"classes": options.classes, "method": options.method}
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in told.items())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def step_alone(options: argparse.Namespace) -> None:
    before = time.perf_counter(), time.process_time()
    result = STEPS[options.step](options.folder, options.size, options.classes, options)
    cost = {
        "seconds": time.perf_counter() - before[0],
        "cpu_seconds": time.process_time() - before[1],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(cost | {"found": result}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("scale"), help="of the results")
    parser.add_argument("--method", default="auto", help="of the neighbor graph")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step_alone(options)
        return
    print_row("step", "samples", "seconds", "CPU s", "peak GiB", "load", "exponent")
    before: dict[str, tuple[int, float]] = {}
    for size in sorted(options.sizes):
        folder = options.folder / f"{size}x{options.classes}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "costs.json"
        costs = json.loads(kept.read_text()) if kept.exists() else {}
        for name in STEPS:
            if name not in costs:
                costs[name] = run_step(name, folder, size, options)
                kept.write_text(json.dumps(costs, indent=1))
            cost, exponent = costs[name], ""
            if name in before:
                smaller, seconds = before[name]
                exponent = math.log(cost["cpu_seconds"] / seconds) / math.log(size / smaller)
            before[name] = size, cost["cpu_seconds"]
            told = ", ".join(f"{key} {value}" for key, value in cost["found"].items())
            numbers = (cost[key] for key in ("seconds", "cpu_seconds", "peak_gib", "load"))
            print_row(name, f"{size:,}", *numbers, exponent, f"  {told}")


if __name__ == "__main__":
    main()
