"""Datasets and views of every form that FiftyOne knows, each with the field of its patches."""

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from killing_cases import of_patches, of_samples
from PIL import Image

_folder = tempfile.TemporaryDirectory(prefix="forms-")

# A view, and the field of the patches that an operator is told to work on, or None.
Form = tuple[Any, str | None]


def dataset() -> fo.Dataset:
    """24 labeled samples with embeddings; four of them without a label."""
    made = of_samples()
    given = made.values("species")
    made.set_values("species", [None if n % 6 == 5 else one for n, one in enumerate(given)])
    return made


def _empty() -> Form:
    made = fo.Dataset(f"empty-{uuid.uuid4().hex[:8]}")
    made.add_sample_field("vec", fo.VectorField)
    made.add_sample_field("species", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    return made, None


def _of(view: Callable[[fo.Dataset], Any]) -> Callable[[], Form]:
    return lambda: (view(dataset()), None)


def _twice(made: fo.Dataset) -> Any:
    return made[:16].concat(made[8:].shuffle(seed=5)).concat(made[:4])


def _saved(made: fo.Dataset) -> Any:
    made.save_view("some, chosen", made.select(made.values("id")[::-1][:18], ordered=True))
    return made.load_saved_view("some, chosen")


def _clone(made: fo.Dataset) -> fo.Dataset:
    clone = made.clone(f"twin-{uuid.uuid4().hex[:8]}")
    made.delete()
    return clone


def _read_only(made: fo.Dataset) -> fo.Dataset:
    for name in ("vec", "species", "note", "tags"):
        one = made.get_field(name)
        one.read_only = True
        one.save()
    return made


def _patches() -> Form:
    made = of_patches("boxes")
    return made[:12], "boxes"


def _patches_view() -> Form:
    return of_patches("boxes").to_patches("boxes"), "boxes"


def _evaluation_patches() -> Form:
    made = of_patches("boxes")[:12]._dataset
    found = [one and one.copy() for one in made.values("boxes")]
    for one in filter(None, found):
        for box in one.detections:
            box.confidence = 0.75
    made.set_values("seen", found)
    made.evaluate_detections("seen", gt_field="boxes", eval_key="judged")
    return made.to_evaluation_patches("judged"), "boxes"


def _grouped(made: fo.Dataset | None = None) -> fo.Dataset:
    source = dataset()
    made = fo.Dataset(f"rig-{uuid.uuid4().hex[:8]}")
    made.add_group_field("pair", default="left")
    for number, sample in enumerate(source):
        group = fo.Group()
        for side in ("left", "right"):
            twin = sample.copy()
            twin["pair"], twin["scene"] = group.element(side), str(number % 4)
            made.add_sample(twin)
    made.save_view("mine", made.limit(5))
    source.delete()
    return made


def _film() -> fo.Dataset:
    """Two videos of 12 frames each; nobody needs to decode them."""
    source = dataset()
    made = fo.Dataset(f"film-{uuid.uuid4().hex[:8]}")
    rows = source.values(["filepath", "vec", "told", "species"])
    samples = [*zip(*rows)]
    for video in range(2):
        path = Path(_folder.name) / f"{uuid.uuid4().hex}.mp4"
        path.write_bytes(b"no video")
        sample = fo.Sample(str(path), metadata=fo.VideoMetadata(total_frame_count=12))
        for number, (image, vec, told, label) in enumerate(
            samples[12 * video : 12 * video + 12], 1
        ):
            box = fo.Detection(label="ab"[number % 2], bounding_box=[0, 0, 1, 1], index=1)
            box["vec"], box["told"] = vec, told
            sample.frames[number] = fo.Frame(
                filepath=image,
                vec=vec,
                told=told,
                species=label,
                cars=fo.Detections(detections=[box]),
            )
        turn = fo.TemporalDetection(label="turn", support=[2, 7])
        sample["events"] = fo.TemporalDetections(detections=[turn])
        made.add_sample(sample)
    for name in ("vec", "told"):
        made.add_frame_field(name, fo.VectorField)
        made.add_frame_field(f"cars.detections.{name}", fo.VectorField)
    made.save_view("mine", made.limit(1))
    source.delete()
    return made


def _points() -> Form:
    made = fo.Dataset(f"cloud-{uuid.uuid4().hex[:8]}")
    for number in range(3):
        path = Path(_folder.name) / f"{number}.pcd"
        path.write_text("")
        made.add_sample(fo.Sample(str(path), vec=np.ones(4), species=fo.Classification(label="x")))
    return made, None


def _missing_files() -> Form:
    made = dataset()
    made.set_values("filepath", [f"/nowhere/{one}.png" for one in range(len(made))])
    return made, None


def _half_missing() -> Form:
    made = dataset()
    broken = Path(_folder.name) / f"{uuid.uuid4().hex}.png"
    Image.new("RGB", (8, 8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:40])
    paths = made.values("filepath")
    made.set_values("filepath", [*paths[:10], str(broken), *[f"/none/{n}" for n in range(13)]])
    return made, None


FORMS: dict[str, Callable[[], Form]] = {
    "empty dataset": _empty,
    "empty view": _of(lambda d: d.limit(0)),
    "one sample": _of(lambda d: d.limit(1)),
    "two samples": _of(lambda d: d.limit(2)),
    "shuffled": _of(lambda d: d.shuffle(seed=3)),
    "selected and sorted": _of(
        lambda d: d.select(d.values("id")[::-1][:20], ordered=True).sort_by("note")
    ),
    "twice": _of(_twice),
    "fields hidden": _of(lambda d: d.select_fields("note")),
    "filtered labels": _of(
        lambda d: d.filter_labels("species", fo.ViewField("label") == "dog", only_matches=False)
    ),
    "saved view": _of(_saved),
    "clone": _of(_clone),
    "read-only fields": _of(_read_only),
    "files missing": _missing_files,
    "some files missing": _half_missing,
    "patches field": _patches,
    "patches": _patches_view,
    "evaluation patches": _evaluation_patches,
    "grouped": lambda: (_grouped(), None),
    "slices of a grouped": lambda: (_grouped().select_group_slices(), None),
    "dynamic groups": _of(lambda d: d.group_by("species.label")),
    "groups of groups": lambda: (_grouped().group_by("scene"), None),
    "video": lambda: (_film(), None),
    "frames": lambda: (_film().to_frames(), None),
    "patches of frames": lambda: (_film().to_frames().to_patches("cars"), "cars"),
    "clips": lambda: (_film().to_clips("events"), None),
    "trajectories": lambda: (_film().to_trajectories("frames.cars"), "cars"),
    "point clouds": _points,
    "matched by mongo": _of(lambda d: d.mongo([{"$match": {"note": {"$ne": "note 3"}}}])),
    "counted by mongo": _of(lambda d: d.mongo([{"$group": {"_id": "$note"}}])),
}
