"""What the plugin has done to a dataset: one stored run per result, named by its key.

A run is written before the work begins, as unfinished and with the fields that it will own, and
again when it ends, so that a process that was killed leaves a run that says so. Runs are FiftyOne's
custom runs; the App and ``dataset.list_runs()`` show them.
"""

import datetime
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import fiftyone as fo
from bson import json_util

from ..errors import UserError
from .locks import check_stored, guard
from .ownership import METHOD_PREFIX
from .references import forget_results, store_config, stored_document, sweep
from .target import About, Target

# What a run says while it is being deleted.
UNDER_REMOVAL = "under_removal"

# The operators whose runs are named after a field of embeddings: those that fill it, and the one
# that says what has filled it.
COMPUTING, REDUCING, DESCRIBING = "compute_embeddings", "reduce_embeddings", "describe_embeddings"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """What every run says of itself; what is special to a check stands beside it.

    Attributes:
        about: the samples, the frames or the patches of a field
        parameters: of the call
        whole: whether nothing of the dataset was skipped
        model: the model of the embeddings, if the plugin knows it
        inputs: fingerprints of what was read, by what it is: ``embeddings clip``,
            ``labels ground_truth``, ``files``, …; what makes a run stale
        read, evaluated: how many samples or patches were read, and evaluated
        skipped: how many were not evaluated, by reason
        seconds: what it took
        special: what only this check says (JSON types)
    """

    about: About = field(default_factory=About)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = True
    model: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    read: int | None = None
    evaluated: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    special: Mapping[str, Any] = field(default_factory=dict)

    @property
    def embeddings(self) -> list[str]:
        """The fields of the embeddings that were read, the first one in front."""
        names = self.parameters.get("embeddings")
        return [names] if isinstance(names, str) else list(names or ())

    @property
    def label_field(self) -> str | None:
        return self.parameters.get("label_field")

    @property
    def required_label_field(self) -> str:
        """The field of the labels, of a run that cannot be without.

        Raises:
            UserError: if the run was stored without it
        """
        if self.label_field is None:
            raise UserError("The run does not say which labels it evaluated; run it again")
        return self.label_field

    def as_dict(self) -> dict[str, Any]:
        """As it is stored, and as an operator returns it: one flat dict."""
        names = self.parameters.get("embeddings")
        return {
            "embeddings": names if isinstance(names, str) else next(iter(names or ()), None),
            "frames": self.about.frames,
            "patches_field": self.about.patches_field,
            "things": self.about.noun,
            "parameters": dict(self.parameters),
            "whole": self.whole,
            "model": self.model,
            "inputs": dict(self.inputs),
            "read": self.read,
            "judged": self.evaluated,
            "skipped": dict(self.skipped),
            "seconds": self.seconds,
            **self.special,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "RunFacts":
        """What ``as_dict`` stored, also by an earlier version of the plugin.

        Raises:
            TypeError: if it is not what a run of the plugin stores
        """
        stored = dict(stored)
        patches_field = _of_type(stored.pop("patches_field", None), str)
        path = _of_type(stored.pop("of", None), str) or ""
        frames = bool(stored.pop("frames", path.startswith("frames") and path != patches_field))
        known = {
            "parameters": _of_type(stored.pop("parameters", None), Mapping) or {},
            "whole": bool(stored.pop("whole", True)),
            "model": _of_type(stored.pop("model", None), str),
            "inputs": _of_type(stored.pop("inputs", None), Mapping) or {},
            "read": _of_type(stored.pop("read", None), int),
            "evaluated": _of_type(stored.pop("judged", None), int),
            "skipped": _of_type(stored.pop("skipped", None), Mapping) or {},
            "seconds": _of_type(stored.pop("seconds", None), float, int),
        }
        for derived in ("things", "embeddings"):
            stored.pop(derived, None)
        return cls(About(frames, patches_field), **known, special=stored)


def _of_type(value: Any, *types: type) -> Any:
    if value is not None and not isinstance(value, types):
        raise TypeError(f"{value!r} is not of type {types[0].__name__}")
    return value


@dataclass(frozen=True)
class Run:
    """One run of one operator.

    Attributes:
        key: the run key
        operator: the operator's name
        fields: the paths of the fields that it writes
        facts: what it says of itself
        finished: whether it came to its end
        views: the names of the saved views that it writes
        written_at: when it was last stored, in UTC (ISO 8601); None before
        unreadable: why it cannot be read, or None; nothing else of it is known then
    """

    key: str
    operator: str
    fields: tuple[str, ...] = ()
    facts: RunFacts = field(default_factory=RunFacts)
    finished: bool = False
    views: tuple[str, ...] = ()
    written_at: str | None = None
    unreadable: str | None = None


# Reading


def read_run(dataset: fo.Dataset, key: str) -> Run | None:
    """The plugin's run of that key, or None.

    Raises:
        UserError: if the key belongs to a run that is not the plugin's
    """
    config = _configs(dataset, key).get(key)
    if config is None:
        return None
    if not _is_ours(config):
        raise UserError(
            f"The dataset has a run {key!r} that this plugin did not create; choose another name"
        )
    return _run_of(key, config)


def plugin_runs(dataset: fo.Dataset, operator: str | None = None) -> list[Run]:
    """The plugin's runs on a dataset, of all operators or of one, in the order of their keys."""
    configs = _configs(dataset)
    runs = [_run_of(key, configs[key]) for key in sorted(configs) if _is_ours(configs[key])]
    return [run for run in runs if operator in (None, run.operator)]


def _configs(dataset: fo.Dataset, key: str | None = None) -> dict[str, Mapping[str, Any]]:
    """The configurations of all custom runs, or of one, as they are in the database, by key.

    Asked of the database itself: nobody waits for what another thread is writing, and what another
    process has written is seen. Where FiftyOne keeps them differently, its own calls decide.
    """
    try:
        return _stored_configs(dataset, key)
    except Exception:
        logger.debug("Reading stored runs failed; FiftyOne's own calls are used", exc_info=True)
    with guard:
        dataset.reload()
        keys = dataset.list_runs()
        return {key: dataset.get_run_info(key).config.serialize() for key in keys}


def _stored_configs(dataset: fo.Dataset, key: str | None) -> dict[str, Mapping[str, Any]]:
    import fiftyone.core.odm as foo

    database = foo.get_db_conn()
    known = database.datasets.find_one({"_id": dataset._doc.id}, {"runs": True})
    keys = {id_: name for name, id_ in known["runs"].items() if key in (None, name)}
    found = database.runs.find({"_id": {"$in": list(keys)}}, {"config": True})
    return {keys[run["_id"]]: run["config"] for run in found}


def _is_ours(config: Mapping[str, Any]) -> bool:
    return str(config.get("method") or "").startswith(METHOD_PREFIX)


def _run_of(key: str, config: Mapping[str, Any]) -> Run:
    operator = config["method"].removeprefix(METHOD_PREFIX)
    try:
        return Run(
            key=key,
            operator=operator,
            fields=_texts(config.get("fields")),
            facts=RunFacts.from_dict(_of_type(config.get("facts"), Mapping) or {}),
            finished=config.get("finished") is True,
            views=_texts(config.get("views")),
            written_at=_of_type(config.get("written_at"), str),
        )
    except TypeError as error:
        return Run(key, operator, unreadable=str(error))


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_of_type(value, str) for value in _of_type(values, list, tuple) or ())


def latest_run(target: Target, operator: str, **parameters: Any) -> Run | None:
    """The latest finished run of an operator on these samples or patches, with such parameters."""
    runs = [
        run
        for run in plugin_runs(target.dataset, operator)
        if run.finished
        and run.facts.about == target.about
        and all(run.facts.parameters.get(name) == value for name, value in parameters.items())
    ]
    return max(runs, key=lambda run: (run.written_at or "", run.key), default=None)


def embeddings_key(target: Target, embeddings: str) -> str:
    """The key of the run that computes a field of embeddings, and the prefix of its graphs.

    Keys are names of variables; a field, or one that it lies in, may be called anything.
    """
    path = target.dataset_path(embeddings)
    key = path.replace(".", "_")
    if key.isidentifier():
        return key
    digest = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
    return f"field_{re.sub('[^0-9A-Za-z]+', '_', key).strip('_')}_{digest}"


def embeddings_run(target: Target, embeddings: str, operator: str = COMPUTING) -> Run | None:
    """The run of an operator that fills or describes a field, or None if another has its name."""
    try:
        run = read_run(target.dataset, embeddings_key(target, embeddings))
    except UserError:
        return None
    if run is None or run.operator != operator:
        return None
    # A description owns no field, and says of which one it is.
    paths = (*run.fields, run.facts.special.get("described"))
    return run if target.dataset_path(embeddings) in paths else None


def model_of(target: Target, embeddings: str | None) -> str | None:
    """The name of the model that computed a field of embeddings, as far as the plugin knows.

    Of reduced embeddings with what they were reduced by: two reducers make two models. Of those
    that were made elsewhere, what ``describe_embeddings`` was given.
    """
    if embeddings is None:
        return None
    runs = (
        embeddings_run(target, embeddings, operator)
        for operator in (COMPUTING, REDUCING, DESCRIBING)
    )
    return next((run.facts.model for run in runs if run is not None), None)


def read_results(dataset: fo.Dataset, key: str) -> SimpleNamespace | None:
    """The results of a run, with their values as attributes; None if there are none to read."""
    try:
        document = stored_document(dataset, key)
        if document is None or not document.results:
            return None
        return SimpleNamespace(**json_util.loads(document.results.read().decode()))
    except Exception:  # half deleted by a process that was killed, say
        logger.debug("The results of the run %r cannot be read", key, exc_info=True)
        return None


def required_results(dataset: fo.Dataset, run: Run) -> SimpleNamespace:
    """The results of a run.

    Raises:
        UserError: if there are none to read
    """
    results = read_results(dataset, run.key)
    if results is None:
        raise UserError(f"The run {run.key!r} has no results; run it again")
    return results


def evaluated_ids(dataset: fo.Dataset, run: Run) -> tuple[str, ...] | None:
    """The ids of what a run has evaluated; None if it did not store them."""
    ids = getattr(read_results(dataset, run.key), "ids", None)
    return tuple(ids.split()) if ids is not None else None


# Writing


def write_run(dataset: fo.Dataset, run: Run, written_at: str | None = None) -> None:
    """Stores a run; the same key again replaces it. Its time is now, unless it is given.

    All that was written before is stored before it, and it is before all that is written later: a
    database that dies may not keep that a run is finished, and forget what it has found.

    Raises:
        UserError: if that cannot be known, since the database was started again
    """
    check_stored(dataset, run.key)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    with guard:
        if not run.finished:
            sweep(dataset, run.key)
        config = dataset.init_run(
            method=METHOD_PREFIX + run.operator,
            fields=list(run.fields),
            facts=run.facts.as_dict(),
            finished=run.finished,
            views=list(run.views),
            written_at=written_at or now,
        )
        _hand_over(store_config(dataset, run.key, config), dataset, run.key)
    check_stored(dataset, run.key)


def write_results(dataset: fo.Dataset, key: str, **values: Any) -> None:
    """Stores what is too large for the facts of a run, as JSON types."""
    document = stored_document(dataset, key)
    if document is None:
        raise UserError(f"The run {key!r} was deleted while its results were stored; run it again")
    forget_results(document)
    results = fo.RunResults(dataset, None, key, **values)
    text = json_util.dumps(results.serialize()).encode()
    document.results.put(text, content_type="application/json")
    document.save()
    with guard:
        _hand_over(document, dataset, key)


def _hand_over(stored: Any, dataset: fo.Dataset, key: str) -> None:
    """Makes a stored run known to the object that all threads have.

    To reload that would take a query for each sample that the caller holds, and what the caller
    has changed in them and not saved yet.
    """
    document = dataset._doc
    document.runs[key] = stored
    # It is stored already: a later dataset.save() must not write what others have replaced since.
    document._changed_fields = [
        name for name in document._changed_fields if name.partition(".")[0] != "runs"
    ]
    dataset._run_cache.pop(key, None)
