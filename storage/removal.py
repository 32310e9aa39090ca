"""What the plugin wrote to a dataset, taken away again: all of it, and nothing else."""

import re
from dataclasses import dataclass, field

import fiftyone as fo

from ..errors import UserError
from .graphs import OPERATOR as GRAPH
from .locks import guard, writing
from .maps import FACTS, stored_maps
from .runs import plugin_runs, read_run


@dataclass
class Removed:
    """The names of what was removed."""

    fields: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    brain_runs: list[str] = field(default_factory=list)


def owned_by(dataset: fo.Dataset, key: str) -> Removed:
    """What belongs to a run of the plugin, or to one of its maps.

    Raises:
        UserError: if there is no run of that name, or the plugin did not make it
    """
    owned = Removed()
    if dataset.has_run(key):
        run = read_run(dataset, key)
        owned.runs = [key]
        owned.fields = [path for path in run.fields if dataset.get_field(path) is not None]
        owned.views = [name for name in run.views if dataset.has_saved_view(name)]
        if run.operator == "compute_embeddings":
            graphs = f"{re.escape(key)}_graph_[0-9a-f]{{12}}"
            owned.runs += [
                other.key
                for other in plugin_runs(dataset, GRAPH)
                if re.fullmatch(graphs, other.key)
            ]
            index = run.facts.get("similarity_index")
            if index and dataset.has_brain_run(index):
                owned.brain_runs = [index]
        return owned
    if dataset.has_brain_run(key):
        config = dataset.get_brain_info(key).config
        if getattr(config, FACTS, None) is not None:
            owned.brain_runs = [key]
            return owned
        raise UserError(f"run_key={key!r} is a brain run that this plugin did not make")
    names = ", ".join(run.key for run in [*plugin_runs(dataset), *stored_maps(dataset)]) or "none"
    raise UserError(
        f"run_key={key!r}: the plugin has no run of that name on this dataset; there are: {names}"
    )


def remove(dataset: fo.Dataset, key: str) -> Removed:
    """Removes a run, its fields, saved views, stored results and brain runs.

    Raises:
        UserError: if there is no run of that name, or the plugin did not make it
    """
    with writing(dataset, key), guard:
        dataset.reload()
        owned = owned_by(dataset, key)
        # The run goes last: what is interrupted can be called again.
        for name in owned.views:
            dataset.delete_saved_view(name)
        for path in owned.fields:
            if path.startswith("frames."):
                dataset.delete_frame_field(path.removeprefix("frames."))
            else:
                dataset.delete_sample_field(path)
        for name in owned.brain_runs:
            dataset.delete_brain_run(name)
        for name in reversed(owned.runs):
            dataset.delete_run(name)
    return owned
