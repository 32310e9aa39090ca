"""The whole audit against the sum of FiftyOne Brain and cleanlab Datalab, on the same vectors.

    pip install -e ".[bench]"
    python benchmarks/audit.py [--size 50000] [--repetitions 3] [--no-peers] [--database] [--cold]

Vectors of 512 dimensions in 100 classes with a tenth of wrong labels; no images are read, so
near-duplicates are candidates that the vectors propose.

- ours: neighbor graph, near-duplicates, outliers, held-out labels and label issues, separability,
  UMAP and the trust of the map.
- peers: FiftyOne Brain's UMAP, near-duplicates and uniqueness, and Datalab's label issues, outliers
  and near-duplicates, with their defaults.
- a clever peer: one pynndescent graph for Datalab and umap-learn, and logistic regression.
- ``--database``: the operator ``audit`` of the installed plugin on a dataset, against the peers
  reading vectors and labels from it and writing their scores to it.
- ``--cold``: ours, and Brain and Datalab, each as the first thing that a process does, with the
  imports and without them.
"""

import argparse
import contextlib
import importlib
import io
import json
import subprocess
import sys
import time
import uuid
import warnings
from functools import partial

import numpy as np
from common import clustered_vectors, interleaved, print_row, require_peers

CLASSES = 100

# What the two import at any rate, before they can compute.
OUR_LIBRARIES = ("torch", "numba", "scipy.sparse", "scipy.stats", "cleanlab.filter")
PEER_LIBRARIES = ("fiftyone.brain", "sklearn.neighbors", "umap", "cleanlab.datalab.datalab")


def data(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in clusters, and classes that follow them, a tenth of them wrong."""
    vectors = clustered_vectors(size, clusters=CLASSES)
    rng = np.random.default_rng(1)
    centers = vectors[rng.choice(size, CLASSES, replace=False)]
    labels = np.concatenate(
        [(vectors[at : at + 4096] @ centers.T).argmax(axis=1) for at in range(0, size, 4096)]
    )
    wrong = rng.random(size) < 0.1
    labels[wrong] = rng.integers(0, CLASSES, wrong.sum())
    return vectors, labels


def ours(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Seconds of each step."""
    from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
    from fiftyone_embedding_quality.analysis.duplicate_candidates import near_candidates
    from fiftyone_embedding_quality.analysis.label_issues import find_label_issues
    from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
    from fiftyone_embedding_quality.analysis.outliers import find_outliers
    from fiftyone_embedding_quality.analysis.separability import class_separability
    from fiftyone_embedding_quality.analysis.trust import plot_trust
    from fiftyone_embedding_quality.analysis.umap_layout import umap_layout
    from fiftyone_embedding_quality.analysis.vectors import unit_rows

    steps: dict[str, float] = {}

    @contextlib.contextmanager
    def step(name: str):
        start = time.perf_counter()
        yield
        steps[name] = time.perf_counter() - start

    names = tuple(map(str, range(CLASSES)))
    with step("neighbor graph"):
        rows = unit_rows(vectors).rows
        graph = neighbor_graph(vectors)
    with step("duplicates"):
        near_candidates(graph)
    with step("held-out labels"):
        evidence = held_out_probabilities(rows, labels, CLASSES, graph)
    with step("outliers"):
        find_outliers(rows, graph, None, labels, evidence.probabilities)
    with step("label issues"):
        find_label_issues(labels, evidence, graph)
    with step("separability"):
        class_separability(rows, labels, names, graph, evidence.probabilities)
    with step("UMAP"):
        points = umap_layout(vectors, graph).points
    with step("trust of the map"):
        plot_trust(vectors, points)
    return steps


def datalab(features: dict, labels: np.ndarray) -> None:
    from cleanlab import Datalab

    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": labels}, label_name="label", verbosity=0)
        issues = {"label": {}, "outlier": {}, "near_duplicate": {}}
        lab.find_issues(**features, issue_types=issues)


def peers(dataset, vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import fiftyone.brain as fob

    calls = {
        "Brain: UMAP": lambda: fob.compute_visualization(
            dataset, embeddings=vectors, method="umap", brain_key="peer", seed=51
        ),
        "Brain: near-duplicates": lambda: fob.compute_near_duplicates(dataset, embeddings=vectors),
        "Brain: uniqueness": lambda: fob.compute_uniqueness(dataset, embeddings=vectors),
        "Datalab": lambda: datalab({"features": vectors}, labels),
    }
    return timed(calls)


def clever_peer(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import umap
    from pynndescent import NNDescent
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    found = {}

    def graph() -> None:
        index = NNDescent(vectors, metric="cosine", n_neighbors=21, random_state=51)
        found["indices"], found["distances"] = index.neighbor_graph
        found["index"] = index

    def judge() -> None:
        model = LogisticRegression(max_iter=100)
        probabilities = cross_val_predict(model, vectors, labels, cv=5, method="predict_proba")
        rows = np.repeat(np.arange(len(vectors)), 20)
        values = np.maximum(found["distances"][:, 1:].ravel(), 1e-9)
        pairs = (rows, found["indices"][:, 1:].ravel())
        knn = csr_matrix((values, pairs), shape=(len(vectors), len(vectors)))
        datalab({"knn_graph": knn, "pred_probs": probabilities}, labels)

    def lay_out() -> None:
        given = (found["indices"], found["distances"], found["index"])
        umap.UMAP(n_neighbors=15, metric="cosine", precomputed_knn=given).fit_transform(vectors)

    return timed({"pynndescent": graph, "LR, Datalab": judge, "umap-learn": lay_out})


def timed(calls: dict) -> dict[str, float]:
    steps = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        steps[name] = time.perf_counter() - start
    return steps


def stored(vectors: np.ndarray, labels: np.ndarray):
    import fiftyone as fo

    dataset = fo.Dataset(f"benchmark-{uuid.uuid4().hex[:8]}")
    dataset.add_samples(
        [
            fo.Sample(f"/none/{index}.jpg", ground_truth=fo.Classification(label=str(label)))
            for index, label in enumerate(labels)
        ]
    )
    dataset.set_values("vectors", list(vectors))
    return dataset


def database(size: int, with_peers: bool) -> None:
    """The operator on a dataset, reading and writing included, against the peers doing so."""
    import fiftyone.operators as foo

    vectors, labels = data(size)
    dataset = stored(vectors, labels)
    try:
        audit = foo.get_operator("@embedding/quality/audit")
        calls = {"audit": partial(audit, dataset, embeddings="vectors", check_pictures=False)}
        if with_peers:
            calls["peers"] = partial(peers_on_database, dataset)
        costs = interleaved(calls, 1)
        print_row(f"{size:,} x 512, with the database", "seconds", "CPU s", "peak MiB", "ratio")
        for name, cost in costs.items():
            ratio = cost.seconds / costs["audit"].seconds
            print_row(name, cost.seconds, cost.cpu_seconds, round(cost.peak_mib), ratio)
        for name, result in costs["audit"].result["steps"].items():
            print_row(f"  {name}", float(result["seconds"]))
    finally:
        dataset.delete()


def peers_on_database(dataset) -> None:
    import fiftyone.brain as fob

    vectors = np.stack(dataset.values("vectors"))
    names = sorted(set(dataset.values("ground_truth.label")))
    labels = np.array([names.index(name) for name in dataset.values("ground_truth.label")])
    fob.compute_visualization(dataset, embeddings="vectors", brain_key="peer", seed=51)
    fob.compute_near_duplicates(dataset, embeddings="vectors")
    fob.compute_uniqueness(dataset, embeddings="vectors")
    from cleanlab import Datalab

    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": labels}, label_name="label", verbosity=0)
        issues = {"label": {}, "outlier": {}, "near_duplicate": {}}
        lab.find_issues(features=vectors, issue_types=issues)
    table = lab.get_issues()
    for column in ("label_score", "is_label_issue", "outlier_score", "is_outlier_issue"):
        dataset.set_values(f"peer_{column}", table[column].tolist())


def first_call(who: str, size: int) -> dict[str, float]:
    """Seconds of everything and of each step, in a process that has done nothing before.

    The libraries are imported first, so that what they cost is told apart.
    """
    vectors, labels = data(size)
    start = time.perf_counter()
    libraries = OUR_LIBRARIES if who == "ours" else PEER_LIBRARIES
    for library in libraries:
        importlib.import_module(library)
    imports = {"imports": time.perf_counter() - start}
    if who == "ours":
        return imports | ours(vectors, labels)
    import fiftyone as fo

    fo.config.show_progress_bars = False
    dataset = stored(vectors[:, :1], labels)
    try:
        return imports | peers(dataset, vectors, labels)
    finally:
        dataset.delete()


def cold(size: int, with_peers: bool) -> None:
    print_row(f"{size:,} x 512, first call of a fresh process", "seconds", "ratio")
    first, first_computing = None, None
    for who in ("ours", "peers") if with_peers else ("ours",):
        command = [sys.executable, __file__, "--one", who, "--size", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        steps = json.loads(done.stdout.splitlines()[-1])
        total = sum(steps.values())
        computing = total - steps["imports"]
        first, first_computing = first or total, first_computing or computing
        print_row({"ours": "ours", "peers": "Brain and Datalab"}[who], total, total / first)
        print_row("  without the imports", computing, computing / first_computing)
        for name, seconds in steps.items():
            print_row(f"  {name}", seconds)


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=3, help="of our calls")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--database", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--one", choices=("ours", "peers"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.no_peers and options.one != "ours":
        require_peers("datasets", "umap", otherwise=", or --no-peers")
    if options.one:
        print(json.dumps(first_call(options.one, options.size)))
        return
    if options.cold:
        cold(options.size, not options.no_peers)
        return
    import fiftyone as fo

    fo.config.show_progress_bars = False
    if options.database:
        database(options.size, not options.no_peers)
    else:
        computing(options.size, options.repetitions, not options.no_peers)


def computing(size: int, repetitions: int, with_peers: bool) -> None:
    vectors, labels = data(size)
    ours(vectors[:3000], labels[:3000])
    costs = interleaved({"ours": partial(ours, vectors, labels)}, repetitions)
    print_row(f"{size:,} x 512, {CLASSES} classes", "seconds", "CPU s", "peak MiB", "ratio")
    show(costs, costs["ours"].seconds)
    if with_peers:
        dataset = stored(vectors[:, :1], labels)
        try:
            for name, call in (
                ("Brain and Datalab", partial(peers, dataset, vectors, labels)),
                ("the clever peer", partial(clever_peer, vectors, labels)),
            ):
                show(interleaved({name: call}, 1), costs["ours"].seconds)
        finally:
            dataset.delete()


def show(costs: dict, seconds_of_ours: float) -> None:
    for name, cost in costs.items():
        ratio = cost.seconds / seconds_of_ours
        print_row(name, cost.seconds, cost.cpu_seconds, round(cost.peak_mib), ratio)
        for step, seconds in cost.result.items():
            print_row(f"  {step}", seconds)


if __name__ == "__main__":
    main()
