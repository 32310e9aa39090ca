"""The operators of the plugin as FiftyOne lists them, and how each is called at the least.

An operator without an entry in ``ENTRIES`` makes every question of the battery fail by its name.
"""

import functools
import inspect
import json
import re
import tempfile
import traceback
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest

PLUGIN = "@embedding/quality"

# What stands for something that is only known when the call is made.
WEIGHTS, FOLDER, FIRST_ID, FIRST_FILE = object(), object(), object(), object()

VECTORS = {"embeddings": "vec"}
LABELED = {**VECTORS, "label_field": "species"}


@dataclass(frozen=True)
class Entry:
    """How an operator is called.

    Attributes:
        parameters: the least that it needs
        before: what must have been run: names of operators
        app: whether only the App calls it
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    app: bool = False


ENTRIES: dict[str, Entry] = {
    "audit": Entry(LABELED),
    "compare_datasets": Entry({**VECTORS, "other": "mine"}),
    "compute_embeddings": Entry(
        {"model": "timm:test_vit", "weights": WEIGHTS, "embeddings": "made"}
    ),
    "compute_separability": Entry(LABELED),
    "compute_visualization": Entry({**VECTORS, "method": "pca"}),
    "delete_run": Entry({"run_key": "outliers"}, ("find_outliers",)),
    "describe_embeddings": Entry({**VECTORS, "model": "elsewhere 1"}),
    "export_report": Entry({"path": FOLDER}, ("find_outliers",)),
    "find_caption_issues": Entry({**VECTORS, "text_embeddings": "told"}),
    "find_clusters": Entry({**LABELED, "names": "labels", "min_size": 3}),
    "find_duplicates": Entry(VECTORS),
    "find_label_issues": Entry(LABELED),
    "find_order_effects": Entry(VECTORS),
    "find_outliers": Entry(VECTORS),
    "find_similar": Entry(
        {"embeddings": "made", "similar_to": FIRST_FILE}, ("compute_embeddings",)
    ),
    "list_runs": Entry({}, ("find_outliers",)),
    "open_dataset_quality": Entry(app=True),
    "open_sample_in_view": Entry({"view": "mine", "id": FIRST_ID}, app=True),
    "reduce_embeddings": Entry({**VECTORS, "num_dims": 3}),
    "remove_redundant": Entry({}, ("find_duplicates",)),
    "review_label_issues": Entry({"decision": "accept"}, ("find_label_issues",)),
    "review_suggestions": Entry({"decision": "accept"}, ("suggest_labels",)),
    "select_samples": Entry({**VECTORS, "num_samples": 5}),
    "suggest_labels": Entry(LABELED),
    "update_audit": Entry({}, ("find_outliers",)),
}


def _registered() -> list[str]:
    """The names of the plugin's operators, without its panels."""
    return sorted(
        one.name
        for one in foo.list_operators()
        if one.plugin_name == PLUGIN and not isinstance(one, foo.Panel)
    )


OPERATORS = _registered()


def entry(name: str) -> Entry:
    if name not in ENTRIES:
        pytest.fail(f"the operator {name} has no entry in tests/battery/battery.py")
    return ENTRIES[name]


def called() -> list[str]:
    """The operators that scripts call; one without an entry is among them, and so fails."""
    return [name for name in OPERATORS if name not in ENTRIES or not ENTRIES[name].app]


def operator(name: str) -> Any:
    return foo.get_operator(f"{PLUGIN}/{name}")


@functools.cache  # FiftyOne reads every plugin again for each operator that it is asked for
def known(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of an operator that scripts call, as its signature tells them."""
    parameters = inspect.signature(type(operator(name)).__call__).parameters
    return {key: one for key, one in parameters.items() if key not in ("self", "samples")}


def having(parameter: str) -> list[str]:
    return [name for name in called() if parameter in known(name)]


# Parameters


@functools.cache
def _home() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="battery-")


@functools.cache
def weights() -> str:
    """A file with weights of a small network of timm, which no hub is asked for."""
    import timm
    import torch

    torch.manual_seed(51)
    path = str(Path(_home().name) / "weights.pt")
    torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    return path


def parameters_of(name: str, samples: Any, patches: str | None = None) -> dict[str, Any]:
    """The parameters of a call.

    Args:
        name: the operator
        samples: the dataset or view that it is called on
        patches (None): the field of the patches that are meant instead of the samples
    """
    given = dict(entry(name).parameters)
    for key, value in given.items():
        if value is WEIGHTS:
            given[key] = weights()
        elif value is FOLDER:
            given[key] = str(Path(_home().name) / uuid.uuid4().hex)
        elif value is FIRST_FILE:
            given[key] = next(iter(samples.values("filepath")), "")
        elif value is FIRST_ID:
            given[key] = next(iter(samples.values("id")), "")
    if patches is not None and not entry(name).app:
        if "patches_field" in known(name):
            given["patches_field"] = patches
        if "label_field" in given:
            given["label_field"] = patches
    return given


def quick(values: Iterable[Any], chosen: Container[Any]) -> list[Any]:
    """Values to parametrize with, of which all but the chosen ones are left to `make battery`."""
    rest = pytest.mark.battery
    return [one if one in chosen else pytest.param(one, marks=rest) for one in values]


# Answers


@dataclass(frozen=True)
class Answer:
    """What came of a call.

    Attributes:
        result: what it returned, or None
        refusal: why it was refused, or None
        fault: a traceback, or what else is wrong, or None
    """

    result: Any = None
    refusal: str | None = None
    fault: str | None = None


def call(name: str, samples: Any, **parameters: Any) -> Answer:
    """Calls an operator as scripts do."""
    try:
        result = operator(name)(samples, **parameters)
    except Exception as error:
        return _refused(error)
    return _checked(name, result)


def execute(name: str, samples: Any, **parameters: Any) -> Answer:
    """Has FiftyOne's executor run an operator, for which a view is stored and read again."""
    of = "dataset" if isinstance(samples, fo.Dataset) else "view"
    try:
        result = foo.execute_operator(f"{PLUGIN}/{name}", {of: samples}, params=parameters).result
    except foo.executor.ExecutionError as error:
        text = str(error)
        # The form has refused it, in the words that it shows; or the work, at its traceback's end.
        if said := re.search(r"^Validation error\. Path: .*?\. Reason: (.+)", text, re.DOTALL):
            return Answer(refusal=said[1])
        if said := re.search(r"^\S*errors\.UserError: (.+)", text, re.DOTALL | re.MULTILINE):
            return Answer(refusal=said[1])
        return Answer(fault=text)
    except Exception as error:
        return _refused(error)
    return _checked(name, result)


def _refused(error: Exception) -> Answer:
    if type(error).__name__ == "UserError" and isinstance(error, ValueError):
        return Answer(refusal=str(error))
    return Answer(fault="".join(traceback.format_exception(error)))


def _checked(name: str, result: Any) -> Answer:
    """An answer whose result is of JSON's types and can be shown."""
    try:
        json.dumps(result, allow_nan=False)
        if not entry(name).app:
            operator(name).summary(result)
            operator(name).links(result)
    except Exception as error:
        return Answer(result, fault="".join(traceback.format_exception(error)))
    return Answer(result)


def prepare(name: str, samples: Any, patches: str | None = None) -> list[Answer]:
    """Runs what must have been run before an operator, if it can be."""
    return [
        call(one, samples, **parameters_of(one, samples, patches)) for one in entry(name).before
    ]
