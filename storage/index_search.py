"""Neighbors from the vector database behind one of FiftyOne's similarity indexes.

LanceDB and Qdrant answer many queries in one call, through the handles that FiftyOne's index
offers. Every other backend is asked through FiftyOne's own call, which goes query by query.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UserError, without_keys
from .patch_names import SEPARATOR
from .target import Target
from .vectors import VectorSet

# Rows whose neighbors are asked for in one call.
BATCH = 500

# Points of Qdrant whose ids are read in one call.
PAGE = 10_000

# FiftyOne's backend without a database. It subtracts the mean of all embeddings before it compares,
# so that of scikit-learn's digits it finds 68 % of the neighbors by cosine.
IN_PROCESS = "sklearn"

# Names of the cosine among the metrics of the backends; Qdrant's default is None.
COSINE = ("cosine", None)

# Neighbors that are asked for at most, where the index holds many samples beside those of a view.
# What is lacking then is searched exactly.
MOST_ASKED = 400

# An index that misses more of the true neighbors than this holds other embeddings, or is set up
# for speed alone; evidence from neighbors would be thin.
LEAST_RECALL = 0.8


def similarity_indexes(target: Target, embeddings: str) -> list[str]:
    """The keys of the indexes in a vector database that neighbors of a field can be taken from."""
    dataset = target.dataset
    found = []
    for key in dataset.list_brain_runs(type="similarity"):
        config = dataset.get_brain_info(key).config
        if _mismatch(target, embeddings, config) is None:
            found.append(key)
    return found


def check_index(target: Target, embeddings: str | None, brain_key: str) -> None:
    """Refuses a similarity index from which neighbors of the embeddings cannot be taken.

    Args:
        target: the samples or patches
        embeddings: the field of their embeddings
        brain_key: of the index

    Raises:
        UserError: if there is no such index, or it is of something else or compares by something
            else
    """
    dataset = target.dataset
    called = f"neighbors={brain_key!r}"
    if embeddings is None:
        raise UserError(f"{called} needs embeddings=, the field that is indexed")
    if not dataset.has_brain_run(brain_key):
        keys = ", ".join(dataset.list_brain_runs(type="similarity")) or "none"
        raise UserError(
            f"{called}: the dataset has no such similarity index; it has: {keys}. "
            "fiftyone.brain.compute_similarity() creates one"
        )
    config = dataset.get_brain_info(brain_key).config
    if getattr(config, "type", None) != "similarity":
        raise UserError(f"{called} is a brain run of another kind, not a similarity index")
    if (fault := _mismatch(target, embeddings, config)) is not None:
        raise UserError(f"{called} {fault}")


def open_index(target: Target, brain_key: str) -> Any:
    """FiftyOne's similarity index.

    Raises:
        UserError: if its database cannot be reached
    """
    try:
        return target.dataset.load_brain_results(brain_key)
    except Exception as error:
        method = target.dataset.get_brain_info(brain_key).config.method
        raise UserError(
            f"neighbors={brain_key!r}: its backend {method!r} cannot be used: "
            f"{without_keys(error)}. Its package must be installed, and "
            "fiftyone.brain.brain_config must name its address"
        ) from error


def _mismatch(target: Target, embeddings: str, config: Any) -> str | None:
    """Why an index cannot tell the neighbors of these embeddings, or None."""
    if config.method == IN_PROCESS:
        return (
            "has no database: FiftyOne's backend 'sklearn' searches the field's embeddings "
            "in this process, and around their mean; omit neighbors=, the search here is faster"
        )
    if target.is_frames:
        return "cannot be used: frames of videos are searched without an index"
    if config.patches_field != target.patches_field:
        about = "the samples" if config.patches_field is None else f"{config.patches_field!r}"
        way_out = (
            "omit patches_field="
            if config.patches_field is None
            else f"pass patches_field={config.patches_field!r}"
        )
        return f"is the index of {about}, not of {target.about.words}; {way_out}, or another index"
    field = config.embeddings_field
    # FiftyOne names it with or without the path of the patches.
    if field is not None and field.removeprefix(target.root) != embeddings:
        return f"is the index of {field!r}, not of {embeddings!r}; choose an index of that field"
    metric = getattr(config, "metric", None)
    if metric not in COSINE:
        return (
            f"compares by {metric}, the checks by cosine; create an index with "
            "compute_similarity(…, metric='cosine')"
        )
    return None


def find_in_index(
    index: Any,
    target: Target,
    vectors: VectorSet,
    k: int,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """The neighbors of each embedding by the search of an index.

    Args:
        index: from ``open_index``
        target: the samples or patches
        vectors: their embeddings
        k: neighbors that are wanted of each
        progress: called with the share of the rows that were searched

    Returns:
        (num_ids, size) int32, rows of ``vectors``; -1 where fewer were found; a row may find itself

    Raises:
        UserError: if the index lacks embeddings, or its database fails
    """
    key, backend = index.key, index.config.method
    if any(SEPARATOR in id_ for id_ in vectors.ids):
        raise UserError(f"neighbors={key!r}: some patches share their label id with others")
    names = np.array(target.label_ids(vectors.ids))
    places = {name: row for row, name in enumerate(names)}
    try:
        indexed = _indexed_ids(index)
    except Exception as error:
        raise UserError(
            f"neighbors={key!r}: reading the index failed: {without_keys(error)}"
        ) from error
    total = len(indexed) if indexed is not None else index.total_index_size
    lacking = [name for name in names if name not in indexed] if indexed is not None else []
    if lacking or total < len(names):
        count, example = len(lacking) or len(names) - total, lacking[0] if lacking else "unknown"
        raise UserError(
            f"neighbors={key!r} lacks {count:,} of the {len(names):,} {target.noun} with "
            f"embeddings (one of them: {example}); add them with index.add_to_index(…), or create "
            "the index again"
        )
    # Itself, and what the index holds besides.
    asked = math.ceil((k + 1) * total / len(names))
    asked = min(max(k + 1, asked if asked == k + 1 else asked + asked // 4), total)
    asked = min(asked, max(MOST_ASKED, k + 1))
    search = {"lancedb": _ask_lancedb, "qdrant": _ask_qdrant}.get(backend, _ask_fiftyone)
    found = np.full((len(names), asked), -1, np.int32)
    for start in range(0, len(names), BATCH):
        part = slice(start, start + BATCH)
        try:
            answers = search(index, names[part].tolist(), vectors.matrix[part], asked)
        except Exception as error:
            raise UserError(
                f"neighbors={key!r}: its search failed: {without_keys(error)}"
            ) from error
        for row, answer in enumerate(answers, start):
            rows = [places[name] for name in answer if name in places][:asked]
            found[row, : len(rows)] = rows
        if progress is not None:
            progress(min(part.stop, len(names)) / len(names))
    return found


def check_recall(brain_key: str, recall: float) -> None:
    """Refuses what an index has found, if it is not nearly what exact search finds.

    Raises:
        UserError: that says the recall, and what may be the reason
    """
    if recall < LEAST_RECALL:
        raise UserError(
            f"neighbors={brain_key!r} finds {100 * recall:.0f} % of the true neighbors. Either it "
            "holds embeddings that were computed before those in the field, or it is set up for "
            "speed alone: create it again, or raise the accuracy of its search"
        )


def _indexed_ids(index: Any) -> set[str] | None:
    """The ids of all samples or labels in an index; None if its backend does not list them."""
    backend, config = index.config.method, index.config
    if backend == "lancedb":
        if index.table is None:
            return set()
        return set(index.table.search().select(["id"]).limit(None).to_arrow()["id"].to_pylist())
    if backend == "qdrant":
        ids: set[str] = set()
        offset = None
        while True:
            points, offset = index.client.scroll(
                config.collection_name, limit=PAGE, offset=offset, with_payload=False
            )
            ids.update(_fiftyone_id(point.id) for point in points)
            if offset is None:
                return ids
    listed = index.sample_ids if config.patches_field is None else index.label_ids
    return None if listed is None else set(map(str, listed))


def _ask_lancedb(index: Any, names: list[str], queries: np.ndarray, k: int) -> list[list[str]]:
    query = index.table.search(queries).distance_type("cosine").limit(k)
    answer = query.select(["id", "_distance"]).to_arrow()
    answers: list[list[str]] = [[] for _ in names]
    # Of a single query the answers carry no number.
    several = "query_index" in answer.column_names
    numbers = answer["query_index"].to_pylist() if several else [0] * len(answer)
    for number, name in zip(numbers, answer["id"].to_pylist()):
        answers[number].append(name)
    return answers


def _ask_qdrant(index: Any, names: list[str], _queries: np.ndarray, k: int) -> list[list[str]]:
    """By the points themselves, whose embeddings the server has."""
    from qdrant_client.models import QueryRequest

    requests = [QueryRequest(query=_qdrant_id(name), limit=k) for name in names]
    answers = index.client.query_batch_points(index.config.collection_name, requests)
    return [[_fiftyone_id(point.id) for point in answer.points] for answer in answers]


def _qdrant_id(name: str) -> str:
    """The name of a point in FiftyOne's collections, in the form of a UUID."""
    return name + 8 * "0"


def _fiftyone_id(point: str) -> str:
    return point.replace("-", "")[:-8]


def _ask_fiftyone(index: Any, names: list[str], queries: np.ndarray, k: int) -> list[list[str]]:
    samples, labels = index._kneighbors(query=queries, k=k)
    return [list(map(str, answer)) for answer in (samples if labels is None else labels)]
