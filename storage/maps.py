"""Maps of vectors as FiftyOne's own visualization runs, which its Embeddings panel shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from .runs import Run, is_used
from .targets import Target
from .vectors import VectorSet

# The attribute of FiftyOne's run configuration in which the plugin keeps its own facts.
FACTS = "embedding_quality"


@dataclass(frozen=True)
class StoredMap:
    """A map that the plugin made.

    Attributes:
        ids: the ids of the samples or objects
        sample_ids: the sample of each
        points: ``(num_ids, num_dims)`` float32
        facts: parameters and results of its run
    """

    ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    points: np.ndarray
    facts: Mapping[str, Any]


def read_map(target: Target, brain_key: str) -> StoredMap | None:
    """The plugin's map of that key, or None.

    Raises:
        UserError: if the key belongs to a brain run that is not the plugin's
    """
    dataset = target.dataset
    if not dataset.has_brain_run(brain_key):
        return None
    config = dataset.get_brain_info(brain_key).config
    facts = getattr(config, FACTS, None)
    if facts is None or config.patches_field != target.patches_field:
        raise UserError(
            f"brain_key={brain_key!r}: the dataset already has a brain run of that name that this "
            f"plugin did not make for these {target.things}; choose another name"
        )
    results = dataset.load_brain_results(brain_key, cache=False)
    if results is None:
        return None
    sample_ids = tuple(map(str, results.sample_ids))
    ids = sample_ids if target.patches_field is None else tuple(map(str, results.label_ids))
    return StoredMap(ids, sample_ids, np.asarray(results.points, np.float32), facts)


def stored_maps(dataset: fo.Dataset) -> list[Run]:
    """The plugin's maps of a dataset as runs, named by their brain keys."""
    maps = []
    for key in sorted(dataset.list_brain_runs(type="visualization")):
        info = dataset.get_brain_info(key)
        facts = getattr(info.config, FACTS, None)
        if facts is None:
            continue
        index = info.config.points_field
        maps.append(
            Run(
                key=key,
                operator="compute_visualization",
                fields=(index,) if index else (),
                facts=facts,
                finished=True,
                written_at=info.timestamp.isoformat(timespec="seconds") + "+00:00",
            )
        )
    return maps


def latest_trust(target: Target, embeddings: str) -> dict[str, Any] | None:
    """How far the latest map of these vectors can be trusted.

    Returns:
        a dict with ``brain_key`` and ``trustworthiness``, or None if the plugin made no map
    """
    maps = [
        run
        for run in stored_maps(target.dataset)
        if run.facts["parameters"]["embeddings"] == embeddings
        and run.facts["patches_field"] == target.patches_field
    ]
    if not maps:
        return None
    latest = max(maps, key=lambda run: (run.written_at, run.key))
    return {"brain_key": latest.key, "trustworthiness": latest.facts["trustworthiness"]}


def write_map(
    target: Target,
    brain_key: str,
    vectors: VectorSet,
    points: np.ndarray,
    facts: Mapping[str, Any],
    spatial_index: bool,
) -> None:
    """Stores a map as FiftyOne's brain run of its method, in place of an earlier one.

    Args:
        target: what was mapped
        brain_key: the key of the run
        vectors: whose ids the points belong to
        points: ``(num_ids, num_dims)`` float32
        facts: what the plugin keeps; ``facts["parameters"]`` are those of the map
        spatial_index: whether to create FiftyOne's spatial index, which makes the lasso fast on
            large sets, in a field of the brain key's name

    Raises:
        UserError: if the spatial index would need a field that is not the plugin's
    """
    from fiftyone.brain import visualization as fbv

    parameters = facts["parameters"]
    shared = {
        "embeddings_field": parameters["embeddings"],
        "patches_field": target.patches_field,
        "num_dims": points.shape[1],
        FACTS: dict(facts),
    }
    seeded = {**shared, "metric": "cosine", "seed": parameters["seed"]}
    method = parameters["method"]
    if method == "umap":
        config = fbv.UMAPVisualizationConfig(
            num_neighbors=parameters["n_neighbors"], min_dist=parameters["min_dist"], **seeded
        )
    elif method == "tsne":
        config = fbv.TSNEVisualizationConfig(perplexity=parameters["perplexity"], **seeded)
    else:
        config = fbv.PCAVisualizationConfig(**shared)
    dataset = target.dataset
    if spatial_index:
        _check_index_field(target, brain_key, points)
    brain_method = config.build()
    if dataset.has_brain_run(brain_key):
        dataset.delete_brain_run(brain_key)
    brain_method.register_run(target.view, brain_key)
    try:
        results = fbv.VisualizationResults(
            target.view,
            config,
            brain_key,
            points,
            sample_ids=np.array(vectors.sample_ids),
            label_ids=np.array(vectors.ids) if target.patches_field is not None else None,
        )
        brain_method.save_run_results(target.view, brain_key, results)
        if spatial_index:
            results.index_points(create_index=True, progress=False)
    except BaseException:
        # A registered run without results would look finished.
        dataset.delete_brain_run(brain_key)
        raise


def _check_index_field(target: Target, brain_key: str, points: np.ndarray) -> None:
    if points.shape[1] != 2:
        raise UserError("spatial_index= is for maps of two dimensions")
    path, dataset = target.dataset_path(brain_key), target.dataset
    ours = dataset.has_brain_run(brain_key) and (
        dataset.get_brain_info(brain_key).config.points_field == brain_key
    )
    if not ours and is_used(dataset, path):
        raise UserError(
            f"spatial_index= needs a field {brain_key!r}, and the dataset has one already that "
            "this plugin did not write; choose another brain_key"
        )
