"""The calls that are killed: every operator that writes, in its variants, on small data."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from killing import Case, _name, _operator
from PIL import Image

_folder = tempfile.TemporaryDirectory(prefix="killed-")


class Colors:
    """An embedding model that is ready at once: how often each shade is in an image."""

    batch_size, min_side, parallel, notes = 2, 0, False, ()

    def __init__(self, identity: Any, bins: int) -> None:
        self.identity, self._bins = identity, bins

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.histogram(np.asarray(image), self._bins, (0, 256))[0].astype(np.float32)

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs) + 1


def prepare(package: str) -> None:
    """Makes ``timm:shades8`` and ``timm:shades12`` known to the plugin."""
    import fiftyone_embedding_quality  # noqa: F401

    registry = __import__(f"{package}.embedding.registry", fromlist=["load_model"])
    identity = __import__(f"{package}.embedding.identity", fromlist=["ModelIdentity"])

    def load_model(name: str, weights: Any = None, device: Any = None) -> Colors:
        bins = int(name.removeprefix("timm:shades"))
        about = (name, "none", f"{bins:064}", "none", bins, "float32", {})
        return Colors(identity.ModelIdentity(*about), bins)

    registry.load_model = load_model


@functools.cache
def files(number: int = 24) -> list[str]:
    """Images of 24 pixels; the last two are copies of the first two."""
    random = np.random.default_rng(51)
    paths = []
    for index in range(number):
        path = Path(_folder.name) / f"{index:02}.png"
        if index < number - 2:
            Image.fromarray(random.integers(0, 255, (24, 24, 3), np.uint8)).save(path)
        else:
            path.write_bytes(Path(paths[index - number + 2]).read_bytes())
        paths.append(str(path))
    return paths


@functools.cache
def _vectors(number: int = 24) -> tuple[np.ndarray, list[str]]:
    """Vectors of three classes, and their labels, some of which are wrong."""
    random = np.random.default_rng(51)
    centers = random.normal(size=(3, 8)) * 6
    classes = np.arange(number) % 3
    vectors = centers[classes] + random.normal(size=(number, 8))
    given = classes.copy()
    given[[0, 3, 6, 9]] = 1
    return vectors.astype(np.float32), [("cat", "dog", "owl")[one] for one in given]


def _captions() -> np.ndarray:
    """Embeddings of captions in a space of their own; those of two samples are swapped."""
    vectors = _vectors()[0]
    turned = vectors @ np.random.default_rng(52).normal(size=(8, 6)).astype(np.float32)
    turned[[1, 5]] = turned[[5, 1]]
    return turned


def _dataset() -> fo.Dataset:
    dataset = fo.Dataset(_name())
    dataset.add_samples(
        [fo.Sample(path, note=f"note {index}") for index, path in enumerate(files())]
    )
    dataset.save_view("mine", dataset.limit(5))
    return dataset


def of_samples() -> fo.Dataset:
    """Labeled samples with vectors."""
    dataset = _dataset()
    vectors, labels = _vectors()
    dataset.add_sample_field("vec", fo.VectorField)
    dataset.set_values("vec", list(vectors))
    dataset.add_sample_field("told", fo.VectorField)
    dataset.set_values("told", list(_captions()))
    dataset.set_values("species", [fo.Classification(label=one) for one in labels])
    return dataset


def of_sets() -> fo.Dataset:
    """Samples with several labels each, and vectors that know of one of them."""
    dataset = of_samples()
    dataset.set_values(
        "multi",
        [
            fo.Classifications(
                classifications=[fo.Classification(label=name) for name in dict.fromkeys(names)]
            )
            for names in zip(_vectors()[1], ["day", "night"] * 12)
        ],
    )
    return dataset


def of_patches(field: str, vectors: bool = True) -> fo.Dataset:
    """Two labeled boxes on each of twelve samples."""
    dataset = _dataset()
    rows, labels = _vectors()
    found = []
    for place in range(12):
        boxes = [
            fo.Detection(label=labels[one], bounding_box=[0.5 * (one % 2), 0, 0.5, 1])
            for one in (2 * place, 2 * place + 1)
        ]
        if vectors:
            for one, box in enumerate(boxes):
                box["vec"] = rows[2 * place + one]
                box["told"] = _captions()[2 * place + one]
        found.append(fo.Detections(detections=boxes))
    dataset.set_values(field, [*found, *[None] * 12])
    if vectors:
        for name in ("vec", "told"):
            dataset.add_sample_field(f"{field}.detections.{name}", fo.VectorField)
    return dataset


def few_files() -> fo.Dataset:
    """Five images, one of which is missing."""
    dataset = fo.Dataset(_name())
    dataset.add_samples([fo.Sample(path, note="mine") for path in [*files()[:4], "/none.png"]])
    return dataset


def few_patches() -> fo.Dataset:
    dataset = fo.Dataset(_name())
    for path in files()[:3]:
        box = fo.Detection(label="x", bounding_box=[0, 0, 0.5, 1])
        dataset.add_sample(fo.Sample(path, boxes=fo.Detections(detections=[box])))
    return dataset


def calls(name: str, **parameters: Any) -> Callable[[Any], Any]:
    """An operator, as a script calls it."""

    def call(dataset: fo.Dataset) -> Any:
        return _operator(name)(dataset, **parameters)

    call.operator, call.parameters = name, parameters
    return call


def then(*several: Callable[[Any], None]) -> Callable[[Any], None]:
    def call(dataset: fo.Dataset) -> None:
        for one in several:
            one(dataset)

    return call


def saves_a_view(dataset: fo.Dataset) -> None:
    dataset.save_view("mine, between", dataset.limit(4))


def without_view_between(dataset: fo.Dataset) -> None:
    dataset.delete_saved_view("mine, between")


def review(decision: str, label: str | None = None, **more: Any) -> Callable[[Any], None]:
    """Reviews the flagged labels, or some of them."""
    label = {"label": label} if label else {}
    return calls("review_label_issues", decision=decision, **label, **more)


LABELED = {"embeddings": "vec", "label_field": "species"}
SETS = {"embeddings": "vec", "label_field": "multi"}


def patches(field: str) -> dict[str, str]:
    return {"embeddings": "vec", "label_field": field, "patches_field": field}


outliers = calls("find_outliers", embeddings="vec")
one_outlier = calls("find_outliers", embeddings="vec", threshold=0.001)
duplicates = calls("find_duplicates", embeddings="vec")
issues = calls("find_label_issues", **LABELED)
issues_of_sets = calls("find_label_issues", **SETS)
pca = {"embeddings": "vec", "method": "pca"}
reduced = calls("reduce_embeddings", embeddings="vec", num_dims=3)
described = calls(
    "describe_embeddings", embeddings="vec", model="elsewhere", similarity_index="like"
)
undo = review("undo")


def issues_of(field: str) -> Callable[[Any], None]:
    return calls("find_label_issues", **patches(field))


def _reviews(kind: str, data: Any, before: Any, labels: str, label: str) -> dict[str, Case]:
    """The four decisions on one kind of labels."""
    accepted = then(before, review("accept"))
    return {
        f"review accept{kind}": Case(data, review("accept"), before, labels, undo),
        f"review keep{kind}": Case(data, review("keep"), before, labels, undo),
        f"review set{kind}": Case(data, review("set", label), before, labels, undo),
        f"review undo{kind}": Case(data, undo, accepted, labels, undo),
    }


def boxes() -> fo.Dataset:
    return of_patches("boxes")


def partly_labeled() -> fo.Dataset:
    """A third without labels, and a view of one half."""
    dataset = of_samples()
    labels = dataset.values("species")
    dataset.set_values("species", [None if n % 3 == 2 else one for n, one in enumerate(labels)])
    dataset.save_view("first half", dataset.limit(12))
    return dataset


def without_copies_tagged(dataset: fo.Dataset) -> None:
    dataset.untag_samples("duplicates_remove")


def moves_threshold(threshold: float | None) -> Callable[[Any], None]:
    def call(dataset: fo.Dataset) -> None:
        package = type(_operator("list_runs")).__module__.partition(".operators")[0]
        thresholds = __import__(f"{package}.checks.thresholds", fromlist=["*"])
        thresholds.move_threshold(dataset, "outliers", threshold)

    return call


def exchange(dataset: fo.Dataset) -> None:
    """Exchanges the embeddings of two samples, or puts them back: every run is to be repeated."""
    ids, vectors = dataset.values(["id", "vec"])
    dataset.set_values("vec", {ids[4]: vectors[8], ids[8]: vectors[4]}, key_field="id")


def decides(key: str, decision: str) -> Callable[[Any], None]:
    """Decides about the first sample that a run has flagged, as the panels do."""

    def call(dataset: fo.Dataset) -> None:
        package = type(_operator("list_runs")).__module__.partition(".operators")[0]
        load = functools.partial(__import__, fromlist=["*"])
        run = load(f"{package}.storage.runs").read_run(dataset, key)
        field, found = ("keep", False) if key == "duplicates" else ("flagged", True)
        view = dataset.match(fo.ViewField(f"{key}_{field}") == found)
        # Again about the same one, if it was decided.
        if (review := f"{key}_review") in dataset.get_field_schema():
            decided = dataset.match(fo.ViewField(review) != None)  # noqa: E711
            view = decided if len(decided) else view
        first = view.first().id
        target = load(f"{package}.storage.few").few(dataset, run.facts.about, [first])
        load(f"{package}.checks.finding_reviews").review_finding(target, run, decision)

    return call


def frames() -> fo.Dataset:
    return of_patches("frames")


shades8 = calls("compute_embeddings", embeddings="shades", model="timm:shades8")
shades12 = calls("compute_embeddings", embeddings="shades", model="timm:shades12", overwrite=True)
shades_of_boxes = calls(
    "compute_embeddings", embeddings="shades", model="timm:shades8", patches_field="boxes"
)
COUNT = {"embeddings": "shades"}
suggestions = calls("suggest_labels", **LABELED)


def suggested(decision: str) -> Callable[[Any], None]:
    return calls("review_suggestions", decision=decision, unsure=True)


def like_the_first(dataset: fo.Dataset) -> None:
    _operator("find_similar")(dataset, similar_to=dataset.first().filepath, num_samples=2, **COUNT)


CASES: dict[str, Case] = {
    "compute_embeddings": Case(few_files, shades8),
    "compute_embeddings overwrite": Case(few_files, shades12, shades8),
    "compute_embeddings patches": Case(few_patches, shades_of_boxes),
    "find_duplicates": Case(of_samples, duplicates),
    "find_duplicates again": Case(of_samples, duplicates, duplicates),
    "find_duplicates patches": Case(
        boxes, calls("find_duplicates", embeddings="vec", patches_field="boxes")
    ),
    "find_outliers": Case(of_samples, outliers),
    "find_outliers again": Case(of_samples, outliers, outliers),
    "find_outliers patches": Case(
        frames, calls("find_outliers", embeddings="vec", patches_field="frames")
    ),
    "find_label_issues": Case(of_samples, issues),
    "find_label_issues reviewed": Case(
        of_samples, issues, then(issues, review("accept")), "species.label", undo
    ),
    "find_label_issues patches": Case(frames, issues_of("frames")),
    "find_label_issues patches again": Case(boxes, issues_of("boxes"), issues_of("boxes")),
    "find_label_issues sets": Case(of_sets, issues_of_sets),
    **_reviews("", of_samples, issues, "species.label", "owl"),
    **_reviews(" patches", boxes, issues_of("boxes"), "boxes.detections.label", "owl"),
    **_reviews(" sets", of_sets, issues_of_sets, "multi", "owl"),
    "compute_separability": Case(of_samples, calls("compute_separability", **LABELED)),
    "compute_visualization": Case(of_samples, calls("compute_visualization", **pca)),
    "compute_visualization again": Case(
        of_samples,
        calls("compute_visualization", brain_key="plot", **pca),
        calls("compute_visualization", brain_key="plot", embeddings="vec"),
    ),
    "compute_visualization index": Case(
        of_samples, calls("compute_visualization", spatial_index=True, **pca)
    ),
    "compute_visualization index again": Case(
        of_samples,
        calls("compute_visualization", spatial_index=True, **pca),
        calls("compute_visualization", spatial_index=True, **pca),
    ),
    "describe_embeddings": Case(of_samples, described),
    "describe_embeddings again": Case(
        of_samples, calls("describe_embeddings", embeddings="vec", model="other"), described
    ),
    "reduce_embeddings": Case(of_samples, reduced),
    "reduce_embeddings again": Case(
        of_samples, calls("reduce_embeddings", embeddings="vec", num_dims=5), reduced
    ),
    "reduce_embeddings update": Case(
        of_samples, calls("reduce_embeddings", embeddings="vec", update=True), reduced
    ),
    "reduce_embeddings patches": Case(
        boxes,
        calls("reduce_embeddings", embeddings="vec", num_dims=3, patches_field="boxes"),
    ),
    "find_clusters": Case(
        of_samples, calls("find_clusters", names="labels", min_size=3, **LABELED)
    ),
    "find_clusters again": Case(
        of_samples,
        calls("find_clusters", names="labels", min_size=6, **LABELED),
        calls("find_clusters", names="labels", min_size=3, **LABELED),
    ),
    "find_clusters patches": Case(
        frames, calls("find_clusters", names="labels", min_size=3, **patches("frames"))
    ),
    "find_caption_issues": Case(
        of_samples, calls("find_caption_issues", embeddings="vec", text_embeddings="told")
    ),
    "compare_datasets": Case(
        partly_labeled,
        calls("compare_datasets", embeddings="vec", other="first half", check_pictures=False),
    ),
    "find_order_effects": Case(of_samples, calls("find_order_effects", embeddings="vec")),
    "select_samples": Case(of_samples, calls("select_samples", embeddings="vec", num_samples=7)),
    "select_samples again": Case(
        of_samples,
        calls("select_samples", embeddings="vec", num_samples=0.5),
        calls("select_samples", num_samples=4, **LABELED),
    ),
    "suggest_labels": Case(partly_labeled, suggestions),
    "review_suggestions accept": Case(
        partly_labeled, suggested("accept"), suggestions, "species", suggested("undo")
    ),
    "review_suggestions undo": Case(
        partly_labeled,
        suggested("undo"),
        then(suggestions, suggested("accept")),
        "species",
        suggested("undo"),
    ),
    "find_similar": Case(few_files, like_the_first, shades8),
    "remove_redundant": Case(
        of_samples, calls("remove_redundant"), duplicates, "tags", without_copies_tagged
    ),
    "decide distinct": Case(of_samples, decides("duplicates", "distinct"), duplicates),
    "decide typical": Case(of_samples, decides("outliers", "typical"), one_outlier),
    "move threshold": Case(of_samples, moves_threshold(0.02), one_outlier),
    "threshold back": Case(
        of_samples, moves_threshold(None), then(one_outlier, moves_threshold(0.02))
    ),
    "delete_run clusters": Case(
        of_samples,
        calls("delete_run", run_key="clusters"),
        calls("find_clusters", names="labels", min_size=3, **LABELED),
        deletes=True,
    ),
    "delete_run": Case(
        of_samples, calls("delete_run", run_key="outliers"), then(outliers, issues), deletes=True
    ),
    "delete_run patches": Case(
        boxes,
        calls("delete_run", run_key="label_issues"),
        then(issues_of("boxes"), review("keep")),
        deletes=True,
    ),
    "delete_run embeddings": Case(
        few_files,
        calls("delete_run", run_key="shades"),
        then(shades8, calls("find_outliers", **COUNT)),
        deletes=True,
    ),
    "delete_run visualization": Case(
        of_samples,
        calls("delete_run", run_key="vec_pca"),
        calls("compute_visualization", spatial_index=True, **pca),
        deletes=True,
    ),
    "audit": Case(of_samples, calls("audit", embeddings="vec", label_field="species")),
    "update_audit": Case(
        of_samples,
        calls("update_audit"),
        then(exchange, outliers, issues, duplicates, exchange, review("keep")),
    ),
}
