"""What the plugin has done to a dataset: one stored run per result, named by its key.

A run is written before the work begins, as unfinished, and again when it ends, so that a process
that was killed leaves a run that says so. Runs are FiftyOne's custom runs; the App and
``dataset.list_runs()`` show them.
"""

import datetime
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou

from ..errors import UserError
from .locks import guard
from .targets import Target

METHOD_PREFIX = "@embedding/quality/"


def guarded(function: Callable) -> Callable:
    """Keeps other threads from the dataset while the function reads or writes its runs."""

    @functools.wraps(function)
    def alone(*arguments: Any, **parameters: Any) -> Any:
        with guard:
            return function(*arguments, **parameters)

    return alone


@dataclass(frozen=True)
class Run:
    """One run of one operator.

    Attributes:
        key: the run key
        operator: the operator's name
        fields: the paths of the fields that it writes
        facts: parameters, model, counts, … (JSON types)
        finished: whether it came to its end
        views: the names of the saved views that it writes
        written_at: when it was last stored, in UTC (ISO 8601); None before
    """

    key: str
    operator: str
    fields: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    views: tuple[str, ...] = ()
    written_at: str | None = None


@guarded
def read_run(dataset: fo.Dataset, key: str) -> Run | None:
    """The plugin's run of that key, or None.

    Raises:
        UserError: if the key belongs to a run that is not the plugin's
    """
    if not dataset.has_run(key):
        return None
    config = dataset.get_run_info(key).config
    method = getattr(config, "method", None) or ""
    if not method.startswith(METHOD_PREFIX):
        raise UserError(
            f"The dataset has a run {key!r} that this plugin did not make; choose another name"
        )
    return Run(
        key=key,
        operator=method.removeprefix(METHOD_PREFIX),
        fields=tuple(config.fields),
        facts=dict(config.facts),
        finished=config.finished,
        # Runs that were stored before runs named their views have none.
        views=tuple(getattr(config, "views", None) or ()),
        written_at=config.written_at,
    )


@guarded
def plugin_runs(dataset: fo.Dataset, operator: str | None = None) -> list[Run]:
    """The plugin's runs on a dataset, of all operators or of one, in the order of their keys."""
    keys = [
        key
        for key in sorted(dataset.list_runs())
        if (dataset.get_run_info(key).config.method or "").startswith(METHOD_PREFIX)
    ]
    runs = [read_run(dataset, key) for key in keys]
    return [run for run in runs if operator in (None, run.operator)]


def model_of(target: Target, embeddings: str | None) -> str | None:
    """The name of the model that computed a field of vectors, as far as the plugin knows."""
    if embeddings is None:
        return None
    dataset, key = target.dataset, target.dataset_path(embeddings).replace(".", "_")
    if not dataset.has_run(key):
        return None
    facts = getattr(dataset.get_run_info(key).config, "facts", None) or {}
    return facts.get("model")


@guarded
def write_run(dataset: fo.Dataset, run: Run, written_at: str | None = None) -> None:
    """Stores a run; the same key again replaces it. Its time is now, unless it is given."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    own = _own_object(dataset)
    config = own.init_run(
        method=METHOD_PREFIX + run.operator,
        fields=list(run.fields),
        facts=dict(run.facts),
        finished=run.finished,
        views=list(run.views),
        written_at=written_at or now,
    )
    if own.has_run(run.key):
        own.update_run_config(run.key, config)
    else:
        own.register_run(run.key, config)
    _hand_over(own, dataset, run.key)


@guarded
def write_results(dataset: fo.Dataset, key: str, **values: Any) -> None:
    """Stores what is too large for the facts of a run, as JSON types."""
    own = _own_object(dataset)
    own.save_run_results(key, own.init_run_results(key, **values), overwrite=True, cache=False)
    _hand_over(own, dataset, key)


def _own_object(dataset: fo.Dataset) -> fo.Dataset:
    """An object of the dataset that no other thread has.

    FiftyOne hands all threads of a process the same object, and its server reloads that at each
    of the App's requests, without our lock: a run that is stored meanwhile would be lost.
    """
    return fo.Dataset._make_instance(name=dataset.name, _create=False)


def _hand_over(own: fo.Dataset, dataset: fo.Dataset, key: str) -> None:
    """Makes a stored run known to the object that all threads have.

    To reload that would take a query for each sample that the caller holds, and what the caller
    has changed in them and not saved yet.
    """
    document = dataset._doc
    document.runs[key] = own._doc.runs[key]
    dataset._run_cache.pop(key, None)


@guarded
def read_results(dataset: fo.Dataset, key: str) -> Any:
    """The results of a run, with their values as attributes; None if there are none."""
    return dataset.load_run_results(key, cache=False)


def check_name(parameter: str, name: str) -> None:
    """Refuses what cannot be the name of a field.

    Raises:
        UserError: that names the parameter
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(
            f"{parameter}={name!r} cannot be the name of a field; use letters, digits and "
            "underscores, beginning with a letter"
        )


def is_used(dataset: fo.Dataset, path: str) -> bool:
    """Whether a dataset has a field, or undeclared attributes of objects, at a path."""
    if dataset.get_field(path) is not None:
        return True
    if "." not in path:
        return False
    collection = dataset._sample_collection
    if path.startswith("frames."):
        path, collection = path.removeprefix("frames."), dataset._frame_collection
    return collection.find_one({path: {"$exists": True}}, {"_id": True}) is not None


@guarded
def check_unclaimed(dataset: fo.Dataset, parameter: str, run: Run) -> None:
    """Refuses to write over fields and saved views that are not the plugin's.

    Args:
        dataset: the dataset
        parameter: the parameter that chose the names, for the message
        run: the run that is about to write its fields

    Raises:
        UserError: that names the parameter and the field
    """
    before = read_run(dataset, run.key)
    if before is not None and before.operator != run.operator:
        raise UserError(
            f"{parameter}: the name {run.key!r} belongs to a run of {before.operator}; "
            "choose another name"
        )
    ours = set(before.fields) if before else set()
    for path in run.fields:
        if path not in ours and is_used(dataset, path):
            raise UserError(
                f"{parameter}: the dataset already has a field {path!r} that this plugin did not "
                "write, and it is not overwritten; choose another name"
            )
    others = {
        fou.to_slug(name): name
        for name in dataset.list_saved_views()
        if name not in (before.views if before else ())
    }
    for name in run.views:
        # FiftyOne tells saved views apart by letters and digits alone.
        if taken := others.get(fou.to_slug(name)):
            raise UserError(
                f"{parameter}: the dataset already has a saved view {taken!r} that this plugin did "
                f"not make, and {name!r} would have the same address; choose another name"
            )


def free_view_name(dataset: fo.Dataset, name: str) -> str:
    """A name for a saved view that FiftyOne can tell from all others: numbered if need be."""
    taken = {fou.to_slug(other) for other in dataset.list_saved_views()}
    number, free = 1, name
    while fou.to_slug(free) in taken:
        number += 1
        free = f"{name} ({number})"
    return free
