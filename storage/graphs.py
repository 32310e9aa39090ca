"""The neighbour graph of a target's vectors: computed once, stored, read by every operator.

A graph belongs to exactly these vectors of exactly these samples or objects. Their fingerprint is
part of its key, so a graph of the dataset never serves a view that it does not fit, and one of
vectors that have changed since is never found.
"""

import datetime
import re
from collections.abc import Callable
from typing import Any

from ..analysis.neighbors import NeighborGraph, neighbor_graph
from .arrays import decode, encode
from .locks import guard, writing
from .runs import Run, read_results, read_run, write_results, write_run
from .targets import Target
from .vectors import VectorSet

OPERATOR = "neighbor_graph"
METRIC = "cosine"

# Enough for maps, outliers and label votes, so that the first operator computes it for all.
SHARED_K = 30

# Graphs that are kept for one field: of the dataset and of some views.
MAX_STORED = 4


def get_graph(
    target: Target,
    embeddings: str,
    vectors: VectorSet,
    k: int = SHARED_K,
    seed: int | None = 51,
    progress: Callable[[float], None] | None = None,
) -> tuple[NeighborGraph, bool]:
    """The graph of the vectors, with at least ``k`` neighbours (or all others, if fewer).

    Args:
        target: the samples or objects
        embeddings: the field that the vectors were read from
        vectors: the vectors
        k: neighbours per row
        seed: of the approximate search, where it is used
        progress: called with the share of the search that is done

    Returns:
        the graph, whose rows are those of ``vectors``, and whether it had been stored before
    """
    k = max(k, SHARED_K)
    prefix = f"{target.dataset_path(embeddings).replace('.', '_')}_graph_"
    key = prefix + vectors.fingerprint[:12]
    # Whoever wants the same graph at the same time waits for it.
    with writing(target.dataset, key):
        graph = _stored_graph(target.dataset, key, vectors, k)
        if graph is not None:
            return graph, True
        graph = neighbor_graph(vectors.matrix, k, seed=seed, progress=progress)
        facts = {
            "parameters": {"embeddings": embeddings, "patches_field": target.patches_field},
            "of": target.about,
            "whole": target.is_whole,
            "fingerprint": vectors.fingerprint,
            "metric": METRIC,
            "k": graph.k,
            "rows": graph.num_rows,
            "method": graph.method,
            "recall": graph.recall,
            "stored_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        }
        with guard:
            write_run(target.dataset, Run(key, OPERATOR, (), facts, finished=True))
            write_results(
                target.dataset,
                key,
                indices=encode(graph.indices),
                distances=encode(graph.distances),
            )
            _forget_oldest(target.dataset, prefix)
    return graph, False


def _stored_graph(dataset: Any, key: str, vectors: VectorSet, k: int) -> NeighborGraph | None:
    with guard:
        stored = read_run(dataset, key)
        enough = min(k, len(vectors.ids) - 1)
        if stored is None or not stored.finished or stored.facts["k"] < enough:
            return None
        results = read_results(dataset, key)
    if results is None or stored.facts["fingerprint"] != vectors.fingerprint:
        return None
    return NeighborGraph(
        decode(results.indices),
        decode(results.distances),
        stored.facts["method"],
        stored.facts["recall"],
    )


def _forget_oldest(dataset: Any, prefix: str) -> None:
    keys = [key for key in dataset.list_runs() if re.fullmatch(prefix + "[0-9a-f]{12}", key)]
    runs = [run for key in keys if (run := read_run(dataset, key)) is not None]
    runs = sorted(
        (run for run in runs if run.operator == OPERATOR), key=lambda run: run.facts["stored_at"]
    )
    for run in runs[:-MAX_STORED]:
        dataset.delete_run(run.key)
