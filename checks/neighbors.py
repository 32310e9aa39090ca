"""Neighbors from a similarity index, taken before a check reads them."""

import time
from typing import Any

from ..errors import UserError
from ..storage.targets import resolve_target
from .inputs import Inputs
from .progress import Progress


def take_neighbors(
    samples: Any, neighbors: str, parameters: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Stores the neighbor graph that the search of a similarity index finds.

    It is *the* graph of these embeddings from then on, which all checks and panels read, until the
    embeddings change.

    Args:
        samples: a dataset or view
        neighbors: the brain key of the index
        parameters: of the operator: ``embeddings``, ``patches_field``, ``seed``
        progress: where it is reported

    Returns:
        a dict with ``brain_key``, ``backend``, ``recall`` (the share of the true neighbors that
        were found, measured), ``reused`` (it had been stored before) and ``seconds``

    Raises:
        UserError: if no embeddings are named, or the index cannot tell their neighbors
    """
    embeddings = parameters.get("embeddings")
    if isinstance(embeddings, list) and len(embeddings) == 1:
        embeddings = embeddings[0]
    if not isinstance(embeddings, str):
        raise UserError(f"neighbors={neighbors!r} needs embeddings=, the one field that is indexed")
    started = time.monotonic()
    inputs = Inputs(
        resolve_target(samples, parameters.get("patches_field")),
        progress,
        embeddings=embeddings,
        seed=parameters.get("seed", 51),
    )
    graph, reused = inputs.graph_of(neighbors=neighbors)
    return {
        "brain_key": neighbors,
        "backend": graph.method,
        "recall": round(graph.recall, 4),
        "reused": reused,
        "seconds": round(time.monotonic() - started, 2),
    }
