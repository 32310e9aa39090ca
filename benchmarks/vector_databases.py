"""Neighbors from LanceDB beside the plugin's own: seconds, recall, and what is found with them.

    python benchmarks/vector_databases.py [--sizes 10000 100000] [--folder FOLDER]

Embeddings of clusters with 2 % of rows half-way between two of them, which ``find_outliers`` is to
find: the area under the ROC curve of its scores, with each graph. The index of the database is made
by LanceDB (``table.create_index``); without one it compares every query with all rows. Needs the
extra ``bench``, and writes to FiftyOne's database: ``FIFTYONE_DATABASE_URI`` names another one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import contextmanager

import numpy as np
from common import clustered_vectors, print_row, require_peers

SHARE_OF_OUTLIERS = 0.02
BETWEEN, SEED = 0.5, 7


def planted(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, and which of them lie between two others."""
    rows, random = clustered_vectors(size), np.random.default_rng(SEED)
    strange = np.zeros(size, bool)
    strange[random.permutation(size)[: int(SHARE_OF_OUTLIERS * size)]] = True
    others = rows[random.integers(size, size=strange.sum())]
    rows[strange] = (1 - BETWEEN) * rows[strange] + BETWEEN * others
    return rows.astype(np.float32), strange


@contextmanager
def filled(rows: np.ndarray):
    """A dataset of samples with these embeddings, and their ids in the order of the rows."""
    import fiftyone as fo

    dataset = fo.Dataset()
    try:
        ids = dataset.add_samples([fo.Sample(f"/nowhere/{i}.jpg") for i in range(len(rows))])
        dataset.add_sample_field("embedded", fo.VectorField)
        dataset.set_values("embedded", dict(zip(ids, rows)), key_field="id")
        yield dataset, ids
    finally:
        dataset.delete()


def measure(size: int, folder: str) -> None:
    import fiftyone.brain as fob
    import fiftyone.operators as foo
    from fiftyone_embedding_quality.checks.inputs import Inputs
    from fiftyone_embedding_quality.storage.targets import resolve_target
    from lancedb.index import HnswSq
    from sklearn.metrics import roc_auc_score

    find_outliers = foo.get_operator("@embedding/quality/find_outliers")
    rows, strange = planted(size)
    with filled(rows) as (dataset, ids):

        def row(name: str, seconds: float, recall: float) -> None:
            scores = dict(zip(*dataset.values(["id", "outliers_score"])))
            area = roc_auc_score(strange, [scores[id_] for id_ in ids])
            print_row(f"{size:,}: {name}", f"{seconds:.1f}", f"{recall:.3f}", f"{area:.4f}")

        inputs = Inputs(resolve_target(dataset), embeddings="embedded")
        started = time.monotonic()
        graph, _ = inputs.graph_of()
        seconds = time.monotonic() - started
        find_outliers(dataset, embeddings="embedded", check_pictures=False)
        row(f"own ({graph.method})", seconds, graph.recall)

        started = time.monotonic()
        uri = f"{folder}/{dataset.name}"
        index = fob.compute_similarity(
            dataset, embeddings="embedded", backend="lancedb", brain_key="lance", uri=uri
        )
        index.table.create_index("vector", config=HnswSq(distance_type="cosine"))
        print(f"# written to LanceDB and indexed there in {time.monotonic() - started:.1f} s")
        result = find_outliers(
            dataset, embeddings="embedded", check_pictures=False, neighbors="lance"
        )
        told = result["neighbors"]
        row("LanceDB, HNSW of 8-bit numbers", told["seconds"], told["recall"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", help="where LanceDB writes; by default a temporary one")
    options = parser.parse_args()
    require_peers("lancedb")
    print_row("embeddings x 512", "graph, s", "recall", "AUROC of outliers")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            measure(size, options.folder or folder)


if __name__ == "__main__":
    main()
