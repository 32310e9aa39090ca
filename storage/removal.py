"""What the plugin wrote to a dataset, taken away again: all of it, and nothing else."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import fiftyone as fo

from ..errors import UserError
from .findings import passing_collection
from .graphs import OPERATOR as GRAPH
from .locks import guard, writing
from .names import own_views, owns_field
from .ownership import marked_fields, marked_views
from .paths import delete_field
from .references import delete_brain_run, delete_run, delete_view, sweep
from .runs import (
    COMPUTING,
    DESCRIBING,
    REDUCING,
    UNDER_REMOVAL,
    Run,
    plugin_runs,
    read_run,
    write_run,
)
from .search_index import indexes_of, stored_indexes
from .visualizations import begin_removal, stored_visualizations


@dataclass
class Removed:
    """The names of what was removed."""

    fields: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    brain_runs: list[str] = field(default_factory=list)


def left_behind(dataset: fo.Dataset) -> list[Run]:
    """Runs of which only fields or saved views are left.

    The clone of a view, a merge and FiftyOne's own ``delete_run`` leave fields without their run.
    """
    present = {run.key for run in plugin_runs(dataset)}
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for path, operator, key in marked_fields(dataset):
        found.setdefault((key, operator), ([], []))[0].append(path)
    for name, operator, key in marked_views(dataset):
        found.setdefault((key, operator), ([], []))[1].append(name)
    return [
        Run(key, operator, tuple(fields), views=tuple(views))
        for (key, operator), (fields, views) in sorted(found.items())
        if key not in present
    ]


def removable(dataset: fo.Dataset) -> Iterator[Run]:
    """What ``delete_run`` can remove: runs, visualizations, indexes and what is left of runs."""
    yield from plugin_runs(dataset)
    yield from stored_visualizations(dataset)
    yield from stored_indexes(dataset)
    yield from left_behind(dataset)


def owned_by(dataset: fo.Dataset, key: str) -> Removed:
    """What belongs to a run of the plugin, or to one of its visualizations or indexes.

    Raises:
        UserError: if there is no run of that name, or the plugin did not make it
    """
    if (stored := read_run(dataset, key)) is not None:
        return _owned_by_run(dataset, stored)
    if any(run.key == key for run in (*stored_visualizations(dataset), *stored_indexes(dataset))):
        return Removed(brain_runs=[key])
    if dataset.has_brain_run(key):
        raise UserError(f"run_key={key!r} is a brain run that this plugin did not create")
    for run in left_behind(dataset):
        if run.key == key:
            return Removed(fields=list(run.fields), views=list(run.views))
    names = ", ".join(run.key for run in removable(dataset)) or "none"
    raise UserError(
        f"run_key={key!r}: the plugin has no run with this name on this dataset; there are: {names}"
    )


def _owned_by_run(dataset: fo.Dataset, run: Run) -> Removed:
    owner = [run.operator, run.key]
    marked = [path for path, *marker in marked_fields(dataset) if marker == owner]
    owned = Removed(
        fields=[
            path
            for path in dict.fromkeys((*run.fields, *marked))
            if dataset.get_field(path) is not None and owns_field(dataset, run, path, run)
        ],
        views=own_views(dataset, run, run),
        runs=[run.key],
    )
    if run.operator in (COMPUTING, REDUCING):
        graphs = f"{re.escape(run.key)}_graph_[0-9a-f]{{12}}"
        owned.runs += [
            other.key for other in plugin_runs(dataset, GRAPH) if re.fullmatch(graphs, other.key)
        ]
    if run.operator in (COMPUTING, REDUCING, DESCRIBING):
        # Of a described field, which stays, only the index that came with the description.
        paths = () if run.operator == DESCRIBING else run.fields
        named = run.facts.special.get("similarity_index")
        owned.brain_runs = [index.key for index in indexes_of(dataset, paths, named)]
    return owned


def remove(dataset: fo.Dataset, key: str) -> Removed:
    """Removes a run, its fields, saved views, stored results and brain runs.

    Raises:
        UserError: if there is no run of that name, or the plugin did not make it
    """
    with writing(dataset, key) as lock, guard:
        dataset.reload()
        sweep(dataset, key, with_graphs=True)
        owned = owned_by(dataset, key)
        _begin(dataset, key)
        # The run goes last: what is interrupted can be called again.
        for name in owned.views:
            delete_view(dataset, name)
        for path in owned.fields:
            delete_field(dataset, path)
        for name in owned.brain_runs:
            delete_brain_run(dataset, name)
        lock.check()
        for name in reversed(owned.runs):
            delete_run(dataset, name)
        passing_collection(dataset, key).drop()
    return owned


def _begin(dataset: fo.Dataset, key: str) -> None:
    """Makes a run say that it is being deleted, so that what is left of it does not look whole."""
    run = read_run(dataset, key)
    if run is None:
        for plot in stored_visualizations(dataset):
            if plot.key == key and plot.finished:
                begin_removal(dataset, key)
        return
    special = {**run.facts.special, UNDER_REMOVAL: True}
    facts = replace(run.facts, special=special)
    write_run(dataset, replace(run, facts=facts, finished=False), written_at=run.written_at)
