"""The check ``find_similar``: the samples or patches that are nearest to one image file."""

import os
import time
from dataclasses import replace
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.findings import Column, Views, matching_view, plan_findings, store_findings
from ..storage.runs import Run, embeddings_run
from ..storage.target import Item, Target
from .contract import EMBEDDINGS, Check, FindingFields
from .inputs import Inputs

# The nearest whose pixels are compared with those of the file.
COMPARED = 20

SIMILAR = Check(
    name="find_similar",
    needs=frozenset({EMBEDDINGS}),
    columns=(
        Column("rank", fo.IntField, "How near to the image file, 1 for the nearest"),
        Column("similarity", fo.FloatField, "Cosine similarity with the image file"),
        Column("duplicate", fo.BooleanField, "Whether it shows the same as the image file"),
    ),
    views={
        "nearest": "The samples most similar to the image file, most similar first",
        "duplicates": "What shows the same as the image file",
    },
    finding=FindingFields(
        kind="similar",
        column="rank",
        order=(("rank", 1),),
        reported=("similarity", "duplicate"),
    ),
    count=("found", "similar"),
)


def find_similar(
    inputs: Inputs,
    *,
    similar_to: str,
    num_samples: int = 20,
    check_pictures: bool = True,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Finds what is nearest to an image file, stores it, and returns how similar it is.

    Args:
        inputs: what is searched
        similar_to, num_samples, check_pictures, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis.neighbors import nearest_rows
    from ..analysis.vectors import unit_rows

    started = time.monotonic()
    target = inputs.target
    path = checked_file(similar_to)
    if num_samples < 1:
        raise UserError(f"num_samples={num_samples} must be at least 1")
    run = plan_findings(target, SIMILAR.name, run_key, SIMILAR.columns, [*SIMILAR.views])
    count = min(num_samples, len(inputs.ids))
    vector = _embedded(inputs, path, similar_to)
    dim = inputs.vectors.matrix.shape[1]
    if vector.shape != (dim,):
        raise UserError(
            f"embeddings={inputs.embeddings!r} have length {dim}, and its model makes "
            f"{len(vector)} numbers; recompute them with compute_embeddings(overwrite=True)"
        )
    query = unit_rows(vector[None]).rows
    near = nearest_rows(query, inputs.rows, count)
    order, similarity = near.indices[0].tolist(), 1 - near.distances[0].astype(np.float64)
    same = _same(inputs, path, query, order[:COMPARED]) if check_pictures else []
    facts = inputs.facts(
        {"similar_to": similar_to, "num_samples": num_samples, "check_pictures": check_pictures}
    )
    facts = replace(
        facts,
        seconds=round(time.monotonic() - started, 2),
        special={
            "found": count,
            "duplicates": len(same) if check_pictures else None,
            "duplicate_ids": [inputs.ids[row] for row in same],
            "most_similar": round(float(similarity[0]), 4),
            "least_similar": round(float(similarity[-1]), 4),
        },
    )
    inputs.progress.say("Storing what is similar")
    saved = store_findings(
        target,
        run,
        SIMILAR.columns,
        {
            "rank": {inputs.ids[row]: place for place, row in enumerate(order, 1)},
            "similarity": {
                inputs.ids[row]: round(value, 6) for row, value in zip(order, similarity.tolist())
            },
            "duplicate": {
                inputs.ids[row]: row in same for row in (order[:COMPARED] if check_pictures else ())
            },
        },
        lambda: _views(target, run, bool(same)),
        facts,
        results={"ids": " ".join(inputs.ids)},
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def checked_file(similar_to: str) -> str:
    """The path of an image file.

    Raises:
        UserError: if there is none
    """
    path = os.path.abspath(os.path.expanduser(similar_to))
    if not os.path.isfile(path):
        raise UserError(f"similar_to={similar_to!r}: there is no such file; name an image file")
    return path


def _embedded(inputs: Inputs, path: str, similar_to: str) -> np.ndarray:
    """The embedding of the file by the model that computed those it is compared with."""
    from ..embedding.pipeline import embed_images
    from ..embedding.registry import load_model

    name = inputs.required_embeddings
    run = embeddings_run(inputs.target, name)
    model = run.facts.parameters.get("model") if run is not None else None
    if run is None or model is None or inputs.text_field is not None:
        what = "are of texts" if inputs.text_field is not None else "were not computed by a model"
        raise UserError(
            f"embeddings={name!r} {what} that could embed an image file; name a field that "
            "compute_embeddings has filled with embeddings of images"
        )
    inputs.progress.say(f"Loading the model {model}")
    network = load_model(model, run.facts.parameters.get("weights"))
    identity = run.facts.special.get("identity")
    if identity and not network.identity.same_vectors(identity):
        raise UserError(
            f"embeddings={name!r}: the model {model} has other weights now than when they were "
            "computed; recompute them with compute_embeddings(overwrite=True)"
        )
    for batch in embed_images(network, [Item(path, path, (path,), None)]):
        if path in batch.failures:
            raise UserError(f"similar_to={similar_to!r}: {batch.failures[path]}")
    return batch.vectors[path]


def _same(inputs: Inputs, path: str, query: np.ndarray, rows: list[int]) -> list[int]:
    """Which of these show the same as the file, verified on the pixels."""
    from ..analysis.duplicates import find_duplicates
    from ..analysis.neighbors import neighbor_graph
    from ..pictures.file_copies import exact_copies
    from ..pictures.small_images import ImageOrPatch, read_small_images

    inputs.progress.say("Comparing the images")
    images = [(path, None), *(inputs.items[row][1:] for row in rows)]
    small = read_small_images([ImageOrPatch(*image) for image in images])
    vectors = np.concatenate([query, inputs.rows[rows]])
    group = find_duplicates(small, exact_copies(small), vectors, neighbor_graph(vectors)).group
    return [row for row, other in zip(rows, group[1:]) if other >= 0 and other == group[0]]


def _views(target: Target, run: Run, some: bool) -> Views:
    rank, texts = f"{run.key}_rank", SIMILAR.views
    views = {"nearest": (matching_view(target, F(rank) > 0, [(rank, 1)]), texts["nearest"])}
    if some:
        same = F(f"{run.key}_duplicate") == True  # noqa: E712
        views["duplicates"] = (matching_view(target, same, [(rank, 1)]), texts["duplicates"])
    return views
