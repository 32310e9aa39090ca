"""The neighbor graph of a target's embeddings: computed once, stored, read by every check.

A graph belongs to exactly these embeddings of exactly these samples or patches. Their fingerprint
is part of its key, so a graph of the dataset never serves a view that it does not fit, and one of
embeddings that have changed since is never found.
"""

import datetime
import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..analysis.found_neighbors import graph_of_found
from ..analysis.neighbors import NeighborGraph, neighbor_graph
from .arrays import decode, encode
from .index_search import check_recall, find_in_index, open_index
from .locks import guard, writing
from .references import delete_run
from .runs import (
    Run,
    RunFacts,
    embeddings_key,
    plugin_runs,
    read_results,
    read_run,
    write_results,
    write_run,
)
from .target import Target
from .vectors import VectorSet

OPERATOR = "neighbor_graph"
METRIC = "cosine"

# Enough for plots, outliers and label votes, so that the first operator computes it for all.
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
    neighbors: str | None = None,
) -> tuple[NeighborGraph, bool]:
    """The graph of the embeddings with ``k`` neighbors, or all others, if there are fewer.

    What is found must not depend on who asked before: of a stored graph with more neighbors the
    nearest are taken, and an approximate one, whose search depends on their number, serves only
    who asks for as many. One from a similarity index serves only who names that.

    Args:
        target: the samples or patches
        embeddings: the field that the embeddings were read from
        vectors: the embeddings
        k: neighbors per row
        seed: of the approximate search, where it is used
        progress: called with the share of the search that is done
        neighbors (None): the brain key of a similarity index whose search finds the neighbors, see
            ``index_search``

    Returns:
        the graph, whose rows are those of ``vectors``, and whether it had been stored before

    Raises:
        UserError: if ``neighbors`` names no index that these can be taken from
    """
    wanted = max(k, SHARED_K)
    k = min(wanted, len(vectors.ids) - 1)
    prefix = f"{embeddings_key(target, embeddings)}_graph_"
    key = prefix + _of_source(vectors.fingerprint, neighbors)[:12]
    # Whoever wants the same graph at the same time waits for it.
    with writing(target.dataset, key):
        graph = _stored_graph(target.dataset, key, vectors, k, seed)
        if graph is not None:
            return graph, True
        if neighbors is None:
            graph = neighbor_graph(vectors.matrix, wanted, seed=seed, progress=progress)
        else:
            graph = _graph_of_index(target, vectors, wanted, seed, progress, neighbors)
        _store_graph(target, key, embeddings, vectors, graph, seed, neighbors)
        _forget_oldest(target.dataset, prefix)
    return graph, False


def _of_source(fingerprint: str, neighbors: str | None) -> str:
    """A fingerprint of the embeddings, and of the index that their neighbors are taken from."""
    if neighbors is None:
        return fingerprint
    return hashlib.blake2b(f"{fingerprint} {neighbors}".encode(), digest_size=6).hexdigest()


def _graph_of_index(
    target: Target,
    vectors: VectorSet,
    k: int,
    seed: int | None,
    progress: Callable[[float], None] | None,
    brain_key: str,
) -> NeighborGraph:
    index = open_index(target, brain_key)
    found = find_in_index(index, target, vectors, min(k, len(vectors.ids) - 1), progress)
    graph = graph_of_found(vectors.matrix, found, k, index.config.method, seed)
    check_recall(brain_key, graph.recall)
    return graph


def _store_graph(
    target: Target,
    key: str,
    embeddings: str,
    vectors: VectorSet,
    graph: NeighborGraph,
    seed: int | None,
    neighbors: str | None,
) -> None:
    facts = RunFacts(
        about=target.about,
        parameters={"embeddings": embeddings},
        whole=target.is_whole,
        inputs={f"embeddings {embeddings}": vectors.fingerprint},
        read=graph.num_rows,
        evaluated=graph.num_rows,
        special={
            "fingerprint": vectors.fingerprint,
            "metric": METRIC,
            "k": graph.k,
            "rows": graph.num_rows,
            "method": graph.method,
            "recall": graph.recall,
            "seed": seed,
            "neighbors": neighbors,
            "stored_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        },
    )
    write_run(target.dataset, Run(key, OPERATOR, (), facts))
    write_results(
        target.dataset,
        key,
        indices=encode(graph.indices),
        distances=encode(graph.distances),
    )
    write_run(target.dataset, Run(key, OPERATOR, (), facts, finished=True))


def _stored_graph(
    dataset: Any, key: str, vectors: VectorSet, k: int, seed: int | None
) -> NeighborGraph | None:
    stored = read_run(dataset, key)
    if stored is None or not stored.finished or stored.operator != OPERATOR:
        return None
    facts = stored.facts.special
    if facts["k"] < k or facts["fingerprint"] != vectors.fingerprint:
        return None
    asked = (facts["k"], facts.get("seed", seed)) == (k, seed)
    if facts["method"] != "exact" and not asked:
        return None
    results = read_results(dataset, key)
    if results is None:
        return None
    indices, distances = decode(results.indices)[:, :k], decode(results.distances)[:, :k]
    return NeighborGraph(
        np.ascontiguousarray(indices),
        np.ascontiguousarray(distances),
        facts["method"],
        facts["recall"],
    )


def _forget_oldest(dataset: Any, prefix: str) -> None:
    runs = [
        run
        for run in plugin_runs(dataset, OPERATOR)
        if re.fullmatch(re.escape(prefix) + "[0-9a-f]{12}", run.key)
    ]
    runs.sort(key=lambda run: run.facts.special.get("stored_at", ""))
    with guard:
        for run in runs[:-MAX_STORED]:
            if dataset.has_run(run.key):
                delete_run(dataset, run.key)
