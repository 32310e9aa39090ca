"""Saved views and runs: documents of their own, and references to them in the dataset's document.

FiftyOne writes the two one after the other, so that a process that is killed in between leaves one
without the other. A reference without its document makes FiftyOne warn that the dataset is corrupt,
and its ``delete_saved_view``, which counts only what is whole, then takes away another view than
the one named. So what is deleted here loses its reference first, in one write, and whoever begins
to write a run sweeps up what a killed one has left.
"""

import datetime
import logging
import re
from typing import Any

import fiftyone as fo
import fiftyone.constants as foc
import fiftyone.core.odm as foo
from bson import json_util
from pymongo.errors import PyMongoError

from .ownership import MARK, METHOD_PREFIX, owner_of_view

logger = logging.getLogger(__name__)

# The fields of a dataset's document that refer to runs, by key.
RUNS, BRAIN_RUNS = "runs", "brain_methods"


def save_view(dataset: fo.Dataset, name: str, view: fo.DatasetView, description: str) -> None:
    """Saves a view under a name that is free, as ``dataset.save_view`` does.

    That one writes the list of all saved views as it has just read it, and with it takes away
    what another process saves in that moment, and brings back what another deletes.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    stages = view._serialize(include_uuids=False)
    document = foo.SavedViewDocument(
        dataset_id=dataset._doc.id,
        name=name,
        slug=dataset._validate_saved_view_name(name),
        description=description,
        view_stages=[json_util.dumps(one) for one in stages],
        created_at=now,
        last_modified_at=now,
    )
    document.save(upsert=True)
    _update(dataset, {"$push": {"saved_views": document.id}})
    dataset._doc.reload("saved_views")
    view._set_name(name)
    if view._is_generated:  # the patches that a view is made of stay with it
        view._dataset._doc.persistent = True
        view._dataset.save()


def delete_view(dataset: fo.Dataset, name: str) -> None:
    """Deletes a saved view that the dataset has."""
    document = next(one for one in dataset._doc.get_saved_views() if one.name == name)
    _update(dataset, {"$pull": {"saved_views": document.id}})
    dataset._doc.reload("saved_views")
    _discard_view(dataset, document)


def stored_document(dataset: fo.Dataset, key: str) -> foo.RunDocument | None:
    """The document of a custom run as it is in the database; None where there is none.

    FiftyOne hands all threads of a process one object of a dataset, and its server reloads that at
    each of the App's requests: what is written through it meanwhile would be lost, and an object
    of our own would read all that the dataset has.
    """
    stored = foo.get_db_conn().datasets.find_one({"_id": dataset._doc.id}, {f"{RUNS}.{key}": True})
    id_ = ((stored or {}).get(RUNS) or {}).get(key)
    return foo.RunDocument.objects(id=id_).first() if id_ is not None else None


def store_config(dataset: fo.Dataset, key: str, config: fo.RunConfig) -> foo.RunDocument:
    """Stores the configuration of a custom run, of a new one or in place of an earlier one."""
    document = stored_document(dataset, key)
    if document is not None:
        document.config = config.serialize()
        document.save()
        return document
    document = foo.RunDocument(
        dataset_id=dataset._doc.id,
        key=key,
        version=foc.VERSION,
        timestamp=datetime.datetime.utcnow(),
        config=config.serialize(),
    )
    document.save(upsert=True)
    _update(dataset, {"$set": {f"{RUNS}.{key}": document.id}})
    return document


def delete_run(dataset: fo.Dataset, key: str) -> None:
    """Deletes a custom run that the dataset has, with its results."""
    document = dataset._doc.runs[key]
    _forget_run(dataset, RUNS, key)
    dataset._run_cache.pop(key, None)
    _discard_run(document)


def delete_brain_run(dataset: fo.Dataset, key: str) -> None:
    """Deletes a brain run that the dataset has, with its results and what else is its own."""
    document = dataset._doc.brain_methods[key]
    try:
        dataset.get_brain_info(key).config.build().cleanup(dataset, key)
    except PyMongoError:
        raise  # the run stays, so that the same call can take away what is left of its field
    except Exception as error:  # as FiftyOne does: what cannot be loaded can be deleted
        logger.warning("The brain run %r could not clean up: %s", key, error)
    _forget_run(dataset, BRAIN_RUNS, key)
    dataset._brain_cache.pop(key, None)
    _discard_run(document)


def reload_brain_runs(dataset: fo.Dataset) -> None:
    """Reads which brain runs there are: another process may have deleted or stored some."""
    dataset._doc.reload(BRAIN_RUNS)
    dataset._brain_cache.clear()


def replace_brain_run(dataset: fo.Dataset, view: Any, key: str, brain_method: Any) -> None:
    """Puts a brain run in the place of another one, which has its key until then.

    FiftyOne deletes the other one first: whoever is killed then leaves no trace of it.
    """
    stages = view._serialize(include_uuids=False) if isinstance(view, fo.DatasetView) else None
    document = dataset._doc.brain_methods[key]
    forget_results(document)
    document.version, document.timestamp = foc.VERSION, datetime.datetime.utcnow()
    document.config = brain_method.config.serialize()
    document.view_stages = None if stages is None else [json_util.dumps(one) for one in stages]
    document.save()
    dataset._brain_cache.pop(key, None)


def forget_results(document: Any) -> None:
    """Deletes the results of a run, custom or of the Brain, that stays.

    FiftyOne deletes the file first: a dataset with a run that refers to no file cannot be cloned.
    """
    if not document.results:
        return
    foo.get_db_conn().runs.update_one({"_id": document.id}, {"$set": {"results": None}})
    document.results.delete()


def sweep(dataset: fo.Dataset, key: str, with_graphs: bool = False) -> None:
    """Removes what a killed process has left: half of a saved view, or of a run.

    Args:
        dataset: the dataset
        key: of the run that is about to be written or deleted. Documents without a reference are
            removed of this one only: another process may just be writing those of others
        with_graphs (False): also of the neighbor graphs of a field of embeddings of that name
    """
    stored = foo.get_db_conn().datasets.find_one(
        {"_id": dataset._doc.id}, {"saved_views": True, RUNS: True, BRAIN_RUNS: True}
    )
    views = list(stored.get("saved_views") or ())
    runs = {kind: dict(stored.get(kind) or {}) for kind in (RUNS, BRAIN_RUNS)}
    _drop_broken_references(dataset, views, runs)
    _discard_unreferenced(dataset, key, with_graphs, views, runs)


def _drop_broken_references(
    dataset: fo.Dataset, views: list[Any], runs: dict[str, dict[str, Any]]
) -> None:
    """Removes references to documents that are not there, whosever they were."""
    whole = _present("views", views)
    if broken := [id_ for id_ in views if id_ not in whole]:
        _update(dataset, {"$pull": {"saved_views": {"$in": broken}}})
        dataset._doc.reload("saved_views")
    for kind, ids in runs.items():
        whole = _present("runs", list(ids.values()))
        for key in [key for key, id_ in ids.items() if id_ not in whole]:
            # Unless another process has stored a run of that key meanwhile.
            _update(dataset, {"$unset": {f"{kind}.{key}": True}}, {f"{kind}.{key}": ids[key]})
            dataset._doc.reload(kind)


def _discard_unreferenced(
    dataset: fo.Dataset,
    key: str,
    with_graphs: bool,
    views: list[Any],
    runs: dict[str, dict[str, Any]],
) -> None:
    """Deletes documents of a run of the plugin that the dataset does not refer to."""
    of_dataset = {"_dataset_id": dataset._doc.id}
    for view in foo.SavedViewDocument.objects(__raw__={**of_dataset, "_id": {"$nin": views}}):
        owner = owner_of_view(view.name, view.description)
        if owner is not None and owner[1] == key:
            _discard_view(dataset, view)
    referred = [id_ for ids in runs.values() for id_ in ids.values()]
    keys = re.compile(re.escape(key) + ("(_graph_[0-9a-f]{12})?" if with_graphs else ""))
    for run in foo.RunDocument.objects(__raw__={**of_dataset, "_id": {"$nin": referred}}):
        if not keys.fullmatch(run.key):
            continue
        method = str(run.config.get("method"))
        if method.startswith(METHOD_PREFIX) or MARK in run.config:
            _discard_run(run)


def _present(collection: str, ids: list[Any]) -> set[Any]:
    found = foo.get_db_conn()[collection].find({"_id": {"$in": ids}}, {"_id": True})
    return {one["_id"] for one in found}


def _update(
    dataset: fo.Dataset, change: dict[str, Any], also: dict[str, Any] | None = None
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    sets = {**change.get("$set", {}), "last_modified_at": now}
    foo.get_db_conn().datasets.update_one(
        {"_id": dataset._doc.id, **(also or {})}, {**change, "$set": sets}
    )


def _forget_run(dataset: fo.Dataset, kind: str, key: str) -> None:
    _update(dataset, {"$unset": {f"{kind}.{key}": True}})
    dataset._doc.reload(kind)


def _discard_view(dataset: fo.Dataset, document: Any) -> None:
    """Deletes the document of a saved view, and lets go of the patches that it was made of."""
    from fiftyone.core.dataset import _handle_delete_generated_saved_view

    _handle_delete_generated_saved_view(dataset, document)
    document.delete()


def _discard_run(document: Any) -> None:
    if document.results:
        document.results.delete()
    document.delete()
