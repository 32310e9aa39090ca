"""FiftyOne's similarity index over embeddings: search by image, and by text where a model can.

The embeddings stay in their field, from which FiftyOne reads them whenever the index is opened.
What the plugin keeps is its mark in the configuration of FiftyOne's run.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from ..embedding.weights import reported_loading
from ..errors import UserError
from .locks import guard, writing
from .names import check_name
from .ownership import MARK
from .references import delete_brain_run, reload_brain_runs, sweep
from .runs import Run, RunFacts
from .target import About, Target
from .vectors import read_vectors

# What stands for the operator in a list of runs.
OPERATOR = "similarity_index"

# Measures of FiftyOne's index; on cosine all checks of the plugin rest.
METRICS = ("cosine", "euclidean")


@dataclass(frozen=True)
class TextTowerNames:
    """What embeds texts into the space of the embeddings, by open_clip's names.

    FiftyOne loads it by itself, in the App's server and in later sessions, from what is stored: its
    zoo model ``open-clip-torch`` with the architecture and the tag or file that the embeddings were
    computed with, so that both towers are the same weights.

    Attributes:
        architecture: open_clip's name
        pretrained: open_clip's tag, or a local file
    """

    architecture: str
    pretrained: str


def is_our_index(dataset: fo.Dataset, brain_key: str) -> bool:
    """Whether there is such a brain run and the plugin made it.

    A user may have deleted ours, and made another one of the same name.
    """
    if not dataset.has_brain_run(brain_key):
        return False
    config = dataset.get_brain_info(brain_key).config
    if hasattr(config, MARK):
        return getattr(config, "type", None) == "similarity"
    # What an earlier version made carries no mark, but these.
    return getattr(config, "model", None) == "open-clip-torch"


def check_index_key(target: Target, embeddings: str, brain_key: str) -> None:
    """Refuses a brain key that cannot be one, or belongs to another run.

    Args:
        target: the samples or patches
        embeddings: the field to be indexed
        brain_key: the key

    Raises:
        UserError: that names the key
    """
    check_name("similarity_index", brain_key)
    dataset = target.dataset
    if not dataset.has_brain_run(brain_key):
        return
    if not is_our_index(dataset, brain_key):
        raise UserError(
            f"similarity_index={brain_key!r}: the dataset already has a brain run with this name "
            "that this plugin did not create; choose another name"
        )
    path = _indexed_path(dataset, brain_key)
    if path not in (None, target.dataset_path(embeddings)):
        raise UserError(
            f"similarity_index={brain_key!r} is the index of {path!r}; choose another name, or "
            f"delete it first with delete_run(run_key={brain_key!r})"
        )


def default_index_key(embeddings: str) -> str:
    """The brain key that forms propose: ``clip_similarity``."""
    return f"{embeddings}_similarity".replace(".", "_")


def check_searchable(target: Target, embeddings: str) -> None:
    """Refuses embeddings that FiftyOne's index cannot read, on all of the dataset.

    Raises:
        UserError: that says how many, why, and what to do
    """
    vectors = read_vectors(target.everything, embeddings)
    faults = {why: count for why, count in vectors.skipped.items() if why != "no embedding"}
    if faults:
        reasons = ", ".join(f"{count:,} × {why}" for why, count in sorted(faults.items()))
        raise UserError(
            f"embeddings={embeddings!r} cannot be searched: {reasons}; correct or clear these first"
        )
    first = target.only(vectors.ids[:1]).values(embeddings)[vectors.ids[0]][0]
    if isinstance(first, np.ndarray) and first.dtype.kind != "f":
        raise UserError(
            f"embeddings={embeddings!r} cannot be searched: they are stored as {first.dtype}, "
            "but FiftyOne's index needs floating-point numbers; store them as float32"
        )


def create_index(
    target: Target,
    embeddings: str,
    brain_key: str,
    tower: TextTowerNames | None = None,
    metric: str = "cosine",
) -> None:
    """Creates a similarity index over all embeddings of a field, in place of an earlier one.

    It is FiftyOne's own run of the backend ``sklearn``: "Sort by similarity" and the search panel
    of the App work on it, and ``dataset.sort_by_similarity(id_or_text_or_vector, brain_key=…)``.

    Args:
        target: the samples or patches; all of the dataset's are searched
        embeddings: the field of the embeddings
        brain_key: the key of FiftyOne's brain run
        tower (None): what embeds prompts; None for search by image only
        metric ("cosine"): ``cosine`` or ``euclidean``

    Raises:
        UserError: if the embeddings cannot be searched, or the tower cannot be loaded
    """
    check_searchable(target, embeddings)
    # With the mark from the beginning: FiftyOne registers a run before it computes it.
    options = {
        "patches_field": target.patches_field,
        "embeddings": embeddings,
        "brain_key": brain_key,
        "backend": "sklearn",
        "metric": metric,
        MARK: {"embeddings": target.dataset_path(embeddings)},
    }
    samples = target.view if target.is_frames else target.dataset
    with writing(target.dataset, brain_key):
        sweep(target.dataset, brain_key)
        with guard:
            reload_brain_runs(target.dataset)
        if target.dataset.has_brain_run(brain_key):
            delete_brain_run(target.dataset, brain_key)
        try:
            _compute_index(samples, tower, options)
        except BaseException:
            if target.dataset.has_brain_run(brain_key):
                delete_brain_run(target.dataset, brain_key)
            raise


def _compute_index(
    samples: fo.core.collections.SampleCollection,
    tower: TextTowerNames | None,
    options: dict[str, Any],
) -> None:
    """Has FiftyOne compute an index, with a tower for prompts if there is one."""
    import fiftyone.brain as fob

    if tower is None:
        fob.compute_similarity(samples, **options)
        return
    settings = {"clip_model": tower.architecture, "pretrained": tower.pretrained}
    weights = tower.pretrained if os.path.isfile(tower.pretrained) else None
    with reported_loading(f"open_clip:{tower.architecture}", weights):
        index = fob.compute_similarity(
            samples, model="open-clip-torch", model_kwargs=settings, **options
        )
    _check_tower(index, tower)


def _check_tower(index: fo.core.brain.BrainResults, tower: TextTowerNames) -> None:
    """Refuses a tower whose texts have another length than the embeddings."""
    of_text = np.size(index.get_model().embed_prompt("a"))
    of_index = index.get_embeddings()[0].shape[1]
    if of_text != of_index:
        raise UserError(
            f"open_clip:{tower.architecture} embeds texts to {of_text} dimensions, but the "
            f"embeddings have {of_index} and come from another model"
        )


def _indexed_path(dataset: fo.Dataset, brain_key: str) -> str | None:
    """The field in the dataset that an index of the plugin is of; None if it does not say so."""
    mark = getattr(dataset.get_brain_info(brain_key).config, MARK, None) or {}
    return mark.get("embeddings")


def stored_indexes(dataset: fo.Dataset) -> list[Run]:
    """The plugin's similarity indexes as runs, named by their brain keys."""
    keys = sorted(dataset.list_brain_runs(type="similarity"))
    return [_run_of(dataset, key) for key in keys if is_our_index(dataset, key)]


def _run_of(dataset: fo.Dataset, key: str) -> Run:
    info = dataset.get_brain_info(key)
    config, path = info.config, _indexed_path(dataset, key) or ""
    facts = RunFacts(
        about=About(path.startswith("frames."), config.patches_field),
        parameters={"embeddings": config.embeddings_field, "metric": config.metric},
        special={"path": path, "text_search": bool(config.supports_prompts)},
    )
    written_at = info.timestamp.isoformat(timespec="milliseconds") + "+00:00"
    # FiftyOne stores its results last.
    finished = bool(dataset._doc.brain_methods[key].results)
    return Run(key, OPERATOR, facts=facts, finished=finished, written_at=written_at)


def indexes_of(dataset: fo.Dataset, paths: Sequence[str], named: str | None = None) -> list[Run]:
    """The plugin's indexes of fields of embeddings.

    Args:
        dataset: the dataset
        paths: the fields, as the dataset calls them
        named (None): another one: what an earlier version made does not say of which field it is
    """
    return [
        run
        for run in stored_indexes(dataset)
        if run.facts.special["path"] in paths or run.key == named
    ]
