"""Visualizations of embeddings as FiftyOne's own runs, which its Embeddings panel shows."""

import logging
import zlib
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from .arrays import decode, encode
from .locks import check_stored, guard, writing
from .names import is_used
from .ownership import MARK
from .references import delete_brain_run, reload_brain_runs, replace_brain_run, sweep
from .runs import Run, RunFacts
from .target import About, Target
from .vectors import VectorSet

logger = logging.getLogger(__name__)

OPERATOR = "compute_visualization"

# The attributes of FiftyOne's run configuration in which the plugin keeps its own facts, whether
# the run came to its end, and a checksum of each embedding.
FACTS, FINISHED, ROWS = MARK, f"{MARK}_finished", f"{MARK}_rows"


@dataclass(frozen=True)
class StoredVisualization:
    """A visualization that the plugin made.

    Attributes:
        ids: the ids of the samples or patches
        sample_ids: the sample of each
        points: ``(num_ids, num_dims)`` float32
        facts: what its run says of itself
        checksums: ``(num_ids,)`` uint32 of the embeddings, None if they were not stored
    """

    ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    points: np.ndarray
    facts: RunFacts
    checksums: np.ndarray | None

    def changed(self, vectors: VectorSet) -> int:
        """How many of the embeddings are others than those that are shown."""
        if self.checksums is None:
            return int(vectors.fingerprint != self.facts.special.get("fingerprint"))
        then = dict(zip(self.ids, self.checksums.tolist()))
        now = zip(vectors.ids, checksums(vectors.matrix).tolist())
        return sum(then[id_] != checksum for id_, checksum in now if id_ in then)


def checksums(matrix: np.ndarray) -> np.ndarray:
    """``(num_rows,)`` uint32, a checksum of each row."""
    return np.array([zlib.crc32(row) for row in np.ascontiguousarray(matrix)], np.uint32)


def read_visualization(target: Target, brain_key: str) -> StoredVisualization | None:
    """The plugin's visualization of that key, or None; None also if it was interrupted.

    Raises:
        UserError: if the key belongs to a brain run that is not the plugin's
    """
    dataset = target.dataset
    if not dataset.has_brain_run(brain_key):
        return None
    run = _run_of(dataset, brain_key)
    if run is None or run.facts.about != target.about:
        raise UserError(
            f"brain_key={brain_key!r}: the dataset already has a brain run with this name that "
            f"this plugin did not create for these {target.noun}; choose another name"
        )
    results = _results_of(dataset, run)
    if results is None:
        return None
    sample_ids = tuple(map(str, results.sample_ids))
    ids = sample_ids
    if target.patches_field is not None:
        ids = tuple(map(target.name_of, sample_ids, map(str, results.label_ids)))
    rows = getattr(dataset.get_brain_info(brain_key).config, ROWS, None)
    return StoredVisualization(
        ids,
        sample_ids,
        np.asarray(results.points, np.float32),
        run.facts,
        decode(rows) if rows is not None else None,
    )


def visualization_ids(dataset: fo.Dataset, brain_key: str) -> tuple[str, ...] | None:
    """The ids of the samples or patches of a visualization, as the plugin calls them."""
    run = _run_of(dataset, brain_key)
    results = _results_of(dataset, run)
    if run is None or results is None:
        return None
    if run.facts.about.patches_field is None:
        return tuple(map(str, results.sample_ids))
    samples: Any = dataset.to_frames() if run.facts.about.frames else dataset
    target = Target(dataset, samples.view(), run.facts.about.patches_field)
    pairs = zip(map(str, results.sample_ids), map(str, results.label_ids))
    return tuple(target.name_of(*pair) for pair in pairs)


def _results_of(dataset: fo.Dataset, run: Run | None) -> Any:
    """The results of a visualization; None if it is not finished, or has none to read."""
    if run is None or not run.finished:
        return None
    try:
        return dataset.load_brain_results(run.key, cache=False)
    except Exception:  # deleted by another process meanwhile, say
        logger.debug("The results of the brain run %r cannot be read", run.key, exc_info=True)
        return None


def stored_visualizations(dataset: fo.Dataset) -> list[Run]:
    """The plugin's visualizations of a dataset as runs, named by their brain keys."""
    keys = sorted(dataset.list_brain_runs(type="visualization"))
    return [run for key in keys if (run := _run_of(dataset, key)) is not None]


def _run_of(dataset: fo.Dataset, key: str) -> Run | None:
    """A visualization as a run; None if the plugin did not make it."""
    info = dataset.get_brain_info(key)
    stored = getattr(info.config, FACTS, None)
    if stored is None:
        return None
    index = info.config.points_field
    run = Run(
        key=key,
        operator=OPERATOR,
        fields=(index,) if index else (),
        # Those that an earlier version stored were stored when they were finished.
        finished=getattr(info.config, FINISHED, True),
        written_at=info.timestamp.isoformat(timespec="milliseconds") + "+00:00",
    )
    try:
        facts = RunFacts.from_dict({"patches_field": info.config.patches_field, **stored})
    except TypeError as error:
        return replace(run, unreadable=str(error))
    return replace(run, facts=facts)


def latest_trust(dataset: fo.Dataset, about: About, embeddings: str) -> dict[str, Any] | None:
    """How far the latest visualization of these embeddings can be trusted.

    Returns:
        a dict with ``brain_key`` and ``trustworthiness``, or None if the plugin made none
    """
    visualizations = [
        run
        for run in stored_visualizations(dataset)
        if run.finished and run.facts.about == about and embeddings in run.facts.embeddings
    ]
    if not visualizations:
        return None
    latest = max(visualizations, key=lambda run: (run.written_at, run.key))
    trustworthiness = latest.facts.special["trustworthiness"]
    return {"brain_key": latest.key, "trustworthiness": trustworthiness}


def write_visualization(
    target: Target,
    brain_key: str,
    vectors: VectorSet,
    points: np.ndarray,
    facts: RunFacts,
    spatial_index: bool,
) -> None:
    """Stores a visualization as FiftyOne's brain run of its method, in place of an earlier one.

    Args:
        target: what is shown
        brain_key: the key of the run
        vectors: whose ids the points belong to
        points: ``(num_ids, num_dims)`` float32
        facts: what the plugin keeps; ``facts.parameters`` are those of the visualization
        spatial_index: whether to create FiftyOne's spatial index, which makes the lasso fast on
            large sets, in a field of the brain key's name

    Raises:
        UserError: if the spatial index would need a field that is not the plugin's
    """
    from fiftyone.brain import visualization as fbv

    dataset = target.dataset
    if spatial_index:
        _check_index_field(target, brain_key, points)
    config = _config(target, facts, points.shape[1])
    setattr(config, ROWS, encode(checksums(vectors.matrix)))
    # One that has no results yet must not look finished to anybody.
    setattr(config, FINISHED, False)
    # Its field is the run's before it is written: what is interrupted there can be taken away.
    config.points_field = brain_key if spatial_index else None
    brain_method = config.build()
    with writing(dataset, brain_key) as lock:
        sweep(dataset, brain_key)
        with guard:
            reload_brain_runs(dataset)
        if dataset.has_brain_run(brain_key):
            before = begin_removal(dataset, brain_key)
            before.build().cleanup(dataset, brain_key)
            replace_brain_run(dataset, target.view, brain_key, brain_method)
        else:
            brain_method.register_run(target.view, brain_key)
        lock.check()
        try:
            results = fbv.VisualizationResults(
                target.view,
                config,
                brain_key,
                points,
                sample_ids=np.array(vectors.sample_ids),
                label_ids=_label_ids(target, vectors),
            )
            brain_method.save_run_results(target.view, brain_key, results)
            if spatial_index:
                results.index_points(create_index=True, progress=False)
            lock.check()
            setattr(config, FINISHED, True)
            brain_method.update_run_config(target.view, brain_key, config)
        except BaseException:
            # The run last: where the database does not answer, it lists what is left.
            brain_method.cleanup(dataset, brain_key)
            delete_brain_run(dataset, brain_key)
            raise


def begin_removal(dataset: fo.Dataset, brain_key: str) -> Any:
    """Marks a visualization as unfinished, and returns its configuration."""
    config = dataset.get_brain_info(brain_key).config
    setattr(config, FINISHED, False)
    config.build().update_run_config(dataset, brain_key, config)
    check_stored(dataset, brain_key)
    return config


def _label_ids(target: Target, vectors: VectorSet) -> np.ndarray | None:
    if target.patches_field is None:
        return None
    return np.array(target.label_ids(vectors.ids))


def _config(target: Target, facts: RunFacts, num_dims: int) -> Any:
    """FiftyOne's configuration of the method, with the plugin's facts."""
    from fiftyone.brain import visualization as fbv

    parameters = facts.parameters
    shared = {
        "embeddings_field": parameters["embeddings"],
        "patches_field": target.patches_field,
        "num_dims": num_dims,
        FACTS: facts.as_dict(),
    }
    seeded = {**shared, "metric": "cosine", "seed": parameters["seed"]}
    if parameters["method"] == "umap":
        return fbv.UMAPVisualizationConfig(
            num_neighbors=parameters["n_neighbors"], min_dist=parameters["min_dist"], **seeded
        )
    if parameters["method"] == "tsne":
        return fbv.TSNEVisualizationConfig(perplexity=parameters["perplexity"], **seeded)
    return fbv.PCAVisualizationConfig(**shared)


def _check_index_field(target: Target, brain_key: str, points: np.ndarray) -> None:
    if points.shape[1] != 2:
        raise UserError("spatial_index= needs a visualization with num_dims=2")
    path, dataset = target.dataset_path(brain_key), target.dataset
    ours = dataset.has_brain_run(brain_key) and (
        dataset.get_brain_info(brain_key).config.points_field == brain_key
    )
    if not ours and is_used(dataset, path):
        raise UserError(
            f"spatial_index= needs a field {brain_key!r}, and the dataset has one already that "
            "this plugin did not write; choose another brain_key"
        )
