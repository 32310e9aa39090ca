"""Damage: image files, labels, boxes, embeddings, weights and parameters that are broken.

Each damaged input gives a result or a clear error, and no healthy neighbor of it loses anything.
"""

from __future__ import annotations

import contextlib
import os
import resource
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import Tally, ask
from .files import bombs, damaged, denied, no_files, originals

# Damaged files in one dataset, and healthy ones beside them.
BATCH, HEALTHY = 125, 8

NOBODY = 65534


def attack(tries: int, kinds: str, seed: int, home: Path) -> Iterator[Tally]:
    """Damages so many files, and some values of each other kind.

    Args:
        tries: of files; a tenth as many calls for each other kind
        kinds: "files", "values", "parameters" or "weights", with commas between them
        seed: of what is damaged, and how
        home: a folder
    """
    for kind in kinds.split(","):
        rng = np.random.default_rng(seed)
        if kind == "files":
            yield from _files(tries, rng, home)
        else:
            yield from CALLS[kind](tries // 10, rng, home)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"Most memory that was held: {peak:.1f} GiB")


# Files


def _files(tries: int, rng: np.random.Generator, home: Path) -> Iterator[Tally]:
    whole = originals(rng)
    folder = home / "files"
    folder.mkdir()
    formats = sorted(whole)
    extensions = sorted({one.split()[0].lower() for one in formats})
    paths = []
    for number in range(tries):
        kind = formats[number % len(formats)]
        way, content = damaged(whole[kind], rng)
        # One in four has the extension of another format.
        extension = rng.choice(extensions) if rng.random() < 0.25 else kind.split()[0].lower()
        path = folder / f"{number:04} {kind}, {way}.{extension}"
        path.write_bytes(content)
        paths.append(str(path))
    healthy = []
    for number in range(HEALTHY):
        path = folder / f"healthy {number}.png"
        path.write_bytes(originals(np.random.default_rng(number))["PNG RGB"])
        healthy.append(str(path))

    expected = _embeddings_of(healthy)
    kinds = {"files damaged": paths}
    kinds["files, extensions swapped"] = list(_swapped(whole, folder, rng))
    kinds["bombs"] = list(_written(bombs(), folder))
    kinds["no files"] = list(no_files(folder))
    for kind, several in kinds.items():
        tally = Tally(kind)
        for start in range(0, len(several), BATCH):
            _batch(tally, several[start : start + BATCH], healthy, expected)
        yield tally
    tally = Tally("files, no permission")
    locked = list(denied(folder, whole["PNG RGB"]))
    with _as_nobody():
        _batch(tally, locked, healthy, expected)
    yield tally


def _swapped(whole: dict[str, bytes], folder: Path, rng: np.random.Generator) -> Iterator[str]:
    extensions = ("jpg", "png", "tif", "gif", "webp", "bmp", "heic", "mp4", "txt", "pcd", "")
    for number, (kind, content) in enumerate(whole.items()):
        path = folder / f"swapped {number} {kind}.{rng.choice(extensions)}"
        path.write_bytes(content)
        yield str(path)


def _written(files: dict[str, bytes], folder: Path) -> Iterator[str]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
        yield str(folder / name)


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """As somebody whom permissions bind: they do not bind root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def _dataset(paths: list[str]) -> Any:
    import fiftyone as fo

    dataset = fo.Dataset(f"damaged-{uuid.uuid4().hex[:8]}")
    # FiftyOne goes by extensions: what is called otherwise is no image for it at first.
    dataset.add_samples([fo.Sample(f"/{number}.png") for number in range(len(paths))])
    dataset.set_values("filepath", paths)
    return dataset


def _network() -> dict[str, Any]:
    from battery import weights

    if os.geteuid() != NOBODY:
        Path(weights()).parent.chmod(0o755)  # for nobody, too
    return {"model": "timm:test_vit", "weights": weights(), "embeddings": "made"}


def _embeddings_of(paths: list[str]) -> dict[str, np.ndarray]:
    tally, dataset = Tally("healthy"), _dataset(paths)
    ask(tally, "compute_embeddings", dataset, **_network())
    dataset.reload()
    found = dict(zip(*dataset.values(["filepath", "made"])))
    dataset.delete()
    assert tally.results == 1 and all(one is not None for one in found.values()), tally
    return found


def _batch(
    tally: Tally, paths: list[str], healthy: list[str], expected: dict[str, np.ndarray]
) -> None:
    """All that reads files, on damaged and healthy ones; each file is one try."""
    import fiftyone as fo

    dataset = _dataset([*paths, *healthy])
    calls = Tally(tally.attack)
    ask(calls, "compute_embeddings", dataset, **_network())
    dataset.reload()
    if calls.results:
        _judge(tally, dataset, paths, expected)
    for name in ("find_outliers", "find_duplicates"):
        ask(calls, name, dataset, embeddings="made")
    ask(calls, "find_duplicates", dataset, run_key="copies")
    folder = f"{os.environ['FIFTYONE_DEFAULT_DATASET_DIR']}-{uuid.uuid4().hex}"
    if os.geteuid() != NOBODY:
        ask(calls, "export_report", dataset, path=folder)
    boxes = [fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 0.5])])]
    dataset.set_values("boxes", boxes * len(dataset))
    ask(calls, "compute_embeddings", dataset, patches_field="boxes", **_network())
    dataset.reload()
    if "outliers_score" in dataset.get_field_schema():
        scores = dict(zip(*dataset.values(["filepath", "outliers_score"])))
        for path in healthy:
            if scores[path] is None:
                tally.fault("lost", f"{path} has no score beside damaged files")
    tally.tracebacks += calls.tracebacks
    tally.hung += calls.hung
    tally.faults += calls.faults
    if calls.errors:  # what is damaged must not cost the others their results
        tally.fault("lost", f"{calls.errors} of {calls.tries} calls were refused")
    dataset.delete()


def _judge(tally: Tally, dataset: Any, paths: list[str], expected: dict[str, np.ndarray]) -> None:
    has_errors = "made_error" in dataset.get_field_schema()
    errors = dataset.values("made_error") if has_errors else [None] * len(dataset)
    found = dict(zip(dataset.values("filepath"), zip(dataset.values("made"), errors)))
    stored = dict.fromkeys(paths)
    tally.tries += len(paths)
    assert len(found) == len(stored) + len(expected), "a file is twice"
    for path, (vector, error) in found.items():
        if path in expected:
            same = vector is not None and np.allclose(vector, expected[path], atol=1e-4)
            if not same:
                tally.fault("lost", f"the embedding of {path} is another one ({error})")
        elif vector is not None and error is None:
            tally.results += 1
        elif error and vector is None and "Traceback" not in error:
            tally.errors += 1
        else:
            tally.fault("lost", f"{path} has neither an embedding nor a reason: {error}")


# Labels, boxes, embeddings


def _text(rng: np.random.Generator) -> str:
    points = rng.integers(1, 0x2FFFF, int(rng.integers(1, 40)))
    text = "".join(chr(one) for one in points if not 0xD800 <= one < 0xE000)
    hard = (
        "",
        " ",
        "\n",
        "\0",
        "<script>alert(1)</script>",
        "=1+1",
        "x" * 70_000,
        "a\u202eb",
        "../x",
    )
    return str(rng.choice(hard)) if rng.random() < 0.5 else text


def _number(rng: np.random.Generator) -> Any:
    several = (
        np.nan,
        np.inf,
        -np.inf,
        1e308,
        -1e308,
        0.0,
        -1.0,
        5e-324,
        2.5,
        None,
        "0.5",
        True,
        2**62,
    )
    return several[int(rng.integers(len(several)))]


def _anything(rng: np.random.Generator) -> Any:
    several = (
        None,
        [],
        {},
        [[]],
        {"_cls": "Nothing"},
        3,
        -1.5,
        "text",
        True,
        [None, 1],
        {"a": [1]},
    )
    return several[int(rng.integers(len(several)))]


def _damaged_label(rng: np.random.Generator, label: dict) -> Any:
    way = rng.integers(0, 4)
    if way == 0:
        return {**label, "label": _text(rng)}
    if way == 1:
        return {**label, "label": None, "confidence": _number(rng)}
    if way == 2:
        return None
    return {**label, "confidence": _number(rng), "logits": None, "tags": []}


def _damaged_box(rng: np.random.Generator, boxes: dict) -> Any:
    if not boxes:
        return boxes
    rows = [dict(one) for one in boxes["detections"]]
    one = rows[int(rng.integers(len(rows)))]
    way = rng.integers(0, 5)
    if way == 0:
        # What is no number within a box, FiftyOne itself cannot read.
        numbers = [_number(rng) for _ in range(int(rng.choice([4, 4, 4, 3, 5, 0])))]
        one["bounding_box"] = [one if isinstance(one, float) else 0.5 for one in numbers]
    elif way == 1:
        one["bounding_box"] = None
    elif way == 2:
        one["label"] = _text(rng)
    elif way == 3:
        rows = []
    else:
        one["bounding_box"] = [float(value) for value in rng.normal(size=4)]
    return {**boxes, "detections": rows}


def _damaged_vector(rng: np.random.Generator, vector: Any) -> Any:
    from bson import Binary
    from fiftyone.core.utils import serialize_numpy_array as packed

    way = rng.integers(0, 6)
    if way == 0:
        row = rng.normal(size=8)
        row[int(rng.integers(8))] = (np.nan, np.inf, 1e300, -1e38)[int(rng.integers(4))]
        return Binary(packed(row))
    if way == 1:
        return Binary(packed(rng.normal(size=int(rng.integers(0, 20)))))
    if way == 2:
        return Binary(packed(np.zeros(8)))
    if way == 3:
        return None
    if way == 4:
        return Binary(packed(rng.normal(size=(2, 4))))
    return [_number(rng) for _ in range(8)]


# What is damaged, in the words of the table: the path of a value, and how.
DAMAGES: dict[str, tuple[str, Callable[[np.random.Generator, Any], Any]]] = {
    "labels": ("species", _damaged_label),
    "boxes": ("boxes", _damaged_box),
    "embeddings": ("vec", _damaged_vector),
}


def _values(tries: int, rng: np.random.Generator, home: Path) -> Iterator[Tally]:
    """One operator on a dataset a few of whose values were damaged in the database itself."""
    from battery import ENTRIES, called, having, parameters_of, prepare
    from killing_cases import of_patches, of_samples

    for kind, (path, damage) in DAMAGES.items():
        tally = Tally(kind)
        patches = "boxes" if kind == "boxes" else None
        base = of_patches("boxes") if patches else of_samples()
        needed = {"labels": "label_field", "boxes": "patches_field", "embeddings": "embeddings"}
        names = [one for one in having(needed[kind]) if one in called() and one in ENTRIES]
        for number in range(tries):
            dataset = base.clone()
            collection = dataset._sample_collection
            rows = list(collection.find())
            for place in rng.choice(12, int(rng.integers(1, 4)), replace=False):
                value = damage(rng, rows[place].get(path))
                collection.update_one({"_id": rows[place]["_id"]}, {"$set": {path: value}})
            before = {one["_id"]: repr(one.get(path)) for one in collection.find()}
            dataset.reload()
            name = names[number % len(names)]
            prepare(name, dataset, patches)
            ask(tally, name, dataset, **parameters_of(name, dataset, patches))
            after = {one["_id"]: repr(one.get(path)) for one in collection.find()}
            if patches is None and before != after:
                tally.fault("lost", f"{name} has changed {path}")
            dataset.delete()
        base.delete()
        yield tally


# Parameters and weights


def _parameters(tries: int, rng: np.random.Generator, home: Path) -> Iterator[Tally]:
    from battery import called, known, parameters_of, prepare
    from killing_cases import of_samples

    tally, base = Tally("parameters"), of_samples()
    for _ in range(tries):
        name = str(rng.choice(called()))
        # A path is the one parameter with which a text of any kind is taken at its word.
        free = [one for one in known(name) if one not in ("delegate", "path")]
        given = parameters_of(name, base)
        for one in rng.choice(free, min(int(rng.integers(1, 3)), len(free)), replace=False):
            make = (_text, _number, _anything)[int(rng.integers(3))]
            given[str(one)] = make(rng)
        dataset = base.clone()
        prepare(name, dataset)
        ask(tally, name, dataset, **given)
        dataset.delete()
    base.delete()
    yield tally


def _weights(tries: int, rng: np.random.Generator, home: Path) -> Iterator[Tally]:
    from battery import weights

    tally = Tally("weights")
    content = Path(weights()).read_bytes()
    image = home / "for weights.png"
    image.write_bytes(originals(rng)["PNG RGB"])
    dataset = _dataset([str(image)])
    for number in range(tries):
        path = home / f"weights {number}.{rng.choice(['pt', 'safetensors', 'bin'])}"
        path.write_bytes(damaged(content, rng)[1])
        ask(tally, "compute_embeddings", dataset, **{**_network(), "weights": str(path)})
        path.unlink()
    dataset.delete()
    yield tally


CALLS = {"values": _values, "parameters": _parameters, "weights": _weights}
