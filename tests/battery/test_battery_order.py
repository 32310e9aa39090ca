"""What every operator finds depends on the data, not on the order in which it was imported."""

import json
import re
from collections.abc import Iterable

import fiftyone as fo
import pytest
from battery import called, entry, operator, parameters_of, prepare
from forms import dataset as labeled
from killing import differences

# What differs from call to call.
PASSING = (
    "reducer",
    "seconds",
    "images_per_second",
    "path",
    "files",
    "bytes",
    "dataset",
    "written_at",
)


def _other_order(made: fo.Dataset) -> fo.Dataset:
    """The same samples, imported in another order."""
    other = fo.Dataset()
    other.add_samples([one.copy() for one in made.shuffle(seed=9)])
    paths = dict(zip(*other.values(["filepath", "id"])))
    shown = made.load_saved_view("mine").values("filepath")
    other.save_view("mine", other.select([paths[path] for path in shown]))
    return other


@pytest.fixture(scope="module")
def orders():
    made = labeled()
    # Of two copies that are alike in all, one is as good as the other.
    made.delete_samples(made.values("id")[-2:])
    other = _other_order(made)
    yield made, other
    made.delete()
    other.delete()


def told(dataset: fo.Dataset, result: object) -> object:
    """A result with files in the place of ids, without what differs from call to call."""
    files = dict(zip(*dataset.values(["id", "filepath"])))
    text = json.dumps(result, sort_keys=True)
    for id_, path in files.items():
        text = text.replace(id_, path)
    # The name of reduced embeddings ends in a hash of sums, which differ in the last digits.
    return json.loads(re.sub(r" \([0-9a-f]{8}\)", "", text), object_hook=_steady)


def _steady(one: dict) -> dict:
    passing = {*PASSING, "inputs", "fingerprint"}
    steady = {key: value for key, value in one.items() if key not in passing}
    # The key of a neighbor graph is a hash of ids, too.
    if steady.get("operator") == "neighbor_graph":
        steady["run_key"] = steady["run_key"].rpartition("_")[0]
    return steady


def found(dataset: fo.Dataset) -> dict:
    files = dict(zip(*dataset.values(["id", "filepath"])))
    vectors = dataset.get_field_schema(ftype=fo.VectorField)
    rows = {}
    for sample in dataset:
        row = sample.to_dict()
        row |= {name: _digits(sample[name]) for name in vectors if sample[name] is not None}
        for key in ("_id", "_dataset_id", "created_at", "last_modified_at"):
            row.pop(key, None)
        text = json.dumps(row, sort_keys=True, default=str)
        for id_, path in files.items():
            text = text.replace(id_, path)
        rows[sample.filepath] = _without_ids(json.loads(text))
    return rows


def _without_ids(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_ids(one) for key, one in value.items() if key != "_id"}
    return [_without_ids(one) for one in value] if isinstance(value, list) else value


def points(dataset: fo.Dataset) -> dict:
    maps = {}
    for key in dataset.list_brain_runs():
        results = dataset.load_brain_results(key)
        files = dict(zip(*dataset.values(["id", "filepath"])))
        rows = zip(results.sample_ids, results.points)
        maps[key] = {files[id_]: _digits(point) for id_, point in rows}
    return maps


def _digits(numbers: Iterable[float]) -> list[float]:
    """Sums of the same numbers in another order differ in the last digits."""
    return [round(float(one), 4) + 0.0 for one in numbers]


@pytest.mark.battery
@pytest.mark.parametrize("name", called())
def test_order_of_import(orders, name):
    results = []
    for untouched in orders:
        dataset = untouched.clone()
        prepare(name, dataset)
        result = operator(name)(dataset, **parameters_of(name, dataset))
        dataset.reload()
        results.append((told(dataset, result), found(dataset), points(dataset)))
        dataset.delete()
    assert entry(name)
    (one, values, maps), (other, same_values, same_maps) = results
    faults = [*differences(one, other), *differences(values, same_values)]
    faults += differences(maps, same_maps)
    assert not faults, "\n".join(faults)
