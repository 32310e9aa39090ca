"""The check ``compute_visualization``: UMAP, t-SNE and PCA for FiftyOne's Embeddings panel."""

import dataclasses
import time
from typing import Any

import numpy as np

from ..analysis.trust import PlotTrust, plot_trust
from ..errors import UserError
from ..storage.labels import class_codes, read_labels
from ..storage.names import check_name
from ..storage.runs import embeddings_key
from ..storage.target import Target
from ..storage.vectors import VectorSet
from ..storage.visualizations import StoredVisualization, read_visualization, write_visualization
from .contract import EMBEDDINGS, Check
from .inputs import Inputs
from .progress import percent

IMPLEMENTATIONS = ("auto", "umap-learn")

METHODS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}

VISUALIZATION = Check(name="compute_visualization", needs=frozenset({EMBEDDINGS}))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How embeddings are laid out.

    Attributes:
        method: ``umap``, ``tsne`` or ``pca``
        num_dims: 2 or 3
        n_neighbors, min_dist: of UMAP
        perplexity: of t-SNE
        label_field: UMAP: pulls samples of the same label together
        seed: of everything random; None draws one
        implementation: of UMAP: ``auto`` (the plugin's own, fast) or ``umap-learn``
        options: of umap-learn: further arguments of ``umap.UMAP``

    Raises:
        UserError: that names a parameter that is out of range
    """

    method: str = "umap"
    num_dims: int = 2
    n_neighbors: int = 15
    min_dist: float = 0.1
    perplexity: float = 30.0
    label_field: str | None = None
    seed: int | None = 51
    implementation: str = "auto"
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            names = ", ".join(map(repr, METHODS))
            raise UserError(f"method={self.method!r} is not known; choose {names}")
        if self.num_dims not in (2, 3):
            raise UserError(f"num_dims={self.num_dims} must be 2 or 3")
        if self.n_neighbors < 2:
            raise UserError(f"n_neighbors={self.n_neighbors} must be at least 2")
        if not 0 <= self.min_dist <= 1:
            raise UserError(f"min_dist={self.min_dist} must be between 0 and 1")
        if not 1 < self.perplexity < 1000:
            raise UserError(f"perplexity={self.perplexity} must be above 1 and below 1,000")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed} must be between 0 and 2**32 - 1, or None")
        if self.label_field is not None and self.method != "umap":
            raise UserError(f"label_field= is supported by UMAP only, not by {self.method!r}")
        if self.implementation not in IMPLEMENTATIONS:
            names = " or ".join(map(repr, IMPLEMENTATIONS))
            raise UserError(f"implementation={self.implementation!r} must be {names}")
        if self.implementation != "auto" and self.method != "umap":
            raise UserError(f"implementation= is for UMAP, not for {self.method!r}")
        if self.options and self.implementation != "umap-learn":
            raise UserError("options= are for umap-learn; also pass implementation='umap-learn'")


def default_brain_key(target: Target, embeddings: str, method: str) -> str:
    """The name of a visualization: ``clip_umap``, or ``dogs_detections_clip_umap`` of patches."""
    return f"{embeddings_key(target, embeddings)}_{method}"


def compute_visualization(
    inputs: Inputs,
    layout: Layout | None = None,
    *,
    brain_key: str | None = None,
    spatial_index: bool = False,
    update: bool = False,
) -> dict[str, Any]:
    """Lays embeddings out and stores the result as FiftyOne's brain run of the method.

    Args:
        inputs: what is shown
        layout (None): how; by default UMAP in two dimensions
        brain_key, spatial_index, update: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier visualization then stays
    """
    started = time.monotonic()
    layout = layout or Layout(seed=inputs.seed)
    brain_key = brain_key or default_brain_key(
        inputs.target, inputs.required_embeddings, layout.method
    )
    check_name("brain_key", brain_key)
    before = read_visualization(inputs.target, brain_key)
    if update:
        before = _extendable(inputs, brain_key, before)
        inputs = _widened(inputs, before)
        layout = layout_of(before)
        points, special = _place(inputs, before)
    else:
        points, special = _lay_out(inputs, layout)
    inputs.progress.say("Measuring how far the plot can be trusted")
    trust = plot_trust(inputs.vectors.matrix, points)
    parameters = dataclasses.asdict(layout)
    parameters.pop("num_dims")
    if inputs.neighbors is not None:
        parameters["neighbors"] = inputs.neighbors
    facts = inputs.with_labels(layout.label_field).facts({})
    facts = dataclasses.replace(
        facts,
        parameters={
            "embeddings": inputs.embeddings,
            "patches_field": inputs.target.patches_field,
            **parameters,
        },
        seconds=round(time.monotonic() - started, 2),
        special={
            "num_points": len(points),
            "num_dims": int(points.shape[1]),
            "trustworthiness": round(trust.trustworthiness, 4),
            "neighbor_preservation": round(trust.neighbor_preservation, 4),
            "trust": trust_verdict(trust),
            "trust_sample": trust.num_sampled,
            "fingerprint": inputs.vectors.fingerprint,
            **special,
        },
    )
    inputs.progress.say("Storing the visualization")
    write_visualization(inputs.target, brain_key, inputs.vectors, points, facts, spatial_index)
    result = {"brain_key": brain_key, **facts.as_dict()}
    result.pop("projection", None)
    return result


def layout_of(before: StoredVisualization) -> Layout:
    """The layout of a stored visualization."""
    names = {one.name for one in dataclasses.fields(Layout)} - {"num_dims"}
    stored = before.facts.parameters
    known = {name: stored[name] for name in names if name in stored}
    return Layout(num_dims=before.points.shape[1], **known)


def _lay_out(inputs: Inputs, layout: Layout) -> tuple[np.ndarray, dict[str, Any]]:
    """The points of a new visualization, and what there is to say about it."""
    if layout.method == "pca":
        return _principal_components(inputs, layout.num_dims)
    # Imported here: they bring numba, which takes a second.
    from ..analysis.tsne_layout import tsne_layout, tsne_neighbors
    from ..analysis.umap_layout import umap_layout

    matrix = inputs.vectors.matrix
    is_tsne = layout.method == "tsne"
    k = tsne_neighbors(layout.perplexity) if is_tsne else layout.n_neighbors - 1
    graph, stored = inputs.graph_of(k)
    inputs.progress.say(f"Computing the layout: {METHODS[layout.method]}")
    if is_tsne:
        made = tsne_layout(matrix, graph, layout.num_dims, layout.perplexity, layout.seed)
    else:
        labels = None
        if layout.label_field is not None:
            names = read_labels(inputs.target, layout.label_field, inputs.vectors.ids)
            labels = np.array(class_codes(names)[1])
        shape = (layout.num_dims, layout.n_neighbors, layout.min_dist, layout.seed, labels)
        if layout.implementation == "auto":
            made = umap_layout(matrix, graph, *shape)
        else:
            made = _by_umap_learn(matrix, graph, *shape, layout.options)
    return made.points, {
        "notes": list(made.notes),
        "graph": {"method": graph.method, "recall": round(graph.recall, 4), "reused": stored},
    }


def _by_umap_learn(*arguments: Any) -> Any:
    from ..analysis.umap_reference import umap_learn_layout

    try:
        return umap_learn_layout(*arguments)
    except (ValueError, TypeError) as error:
        raise UserError(f"implementation='umap-learn': {error}") from None


def _principal_components(inputs: Inputs, num_dims: int) -> tuple[np.ndarray, dict[str, Any]]:
    from ..analysis.pca_layout import pca_layout

    inputs.progress.say("Computing principal components")
    made = pca_layout(inputs.vectors.matrix, num_dims)
    return made.points, {
        "notes": list(made.notes),
        "variance_share": [round(float(share), 4) for share in made.variance_share],
        # With which new samples are placed, whatever becomes of the ones of today.
        "projection": {"mean": made.mean.tolist(), "components": made.components.tolist()},
    }


# Placing new samples


def _extendable(
    inputs: Inputs, brain_key: str, before: StoredVisualization | None
) -> StoredVisualization:
    """The stored visualization, beside whose points new ones can be placed.

    Raises:
        UserError: if there is none, or one of other embeddings, or of t-SNE
    """
    if before is None:
        raise UserError(
            f"update=True: there is no visualization {brain_key!r} yet; run it without update first"
        )
    shown = before.facts.parameters["embeddings"]
    if shown != inputs.embeddings:
        raise UserError(
            f"update=True: the visualization {brain_key!r} shows {shown!r}, not "
            f"{inputs.embeddings!r}"
        )
    if before.facts.parameters["method"] == "tsne":
        raise UserError("update=True: t-SNE cannot add new samples; run it again without update")
    return before


def _widened(inputs: Inputs, before: StoredVisualization) -> Inputs:
    """What is shown already together with what must be placed beside it."""
    target = inputs.target
    left = [id_ for id_ in before.ids if id_ in target.everything.sample_ids]
    widened = target.only(sorted({*left, *target.ids()}))
    return Inputs(
        widened,
        inputs.progress,
        embeddings=inputs.embeddings,
        seed=inputs.seed,
        neighbors=inputs.neighbors,
    )


def _place(inputs: Inputs, before: StoredVisualization) -> tuple[np.ndarray, dict[str, Any]]:
    """The points that are shown, where they were, and new ones; and what there is to say."""
    vectors = inputs.vectors
    inputs.progress.say("Adding the new samples")
    old_points = dict(zip(before.ids, before.points))
    old = np.array([id_ in old_points for id_ in vectors.ids])
    if not old.any():
        raise UserError(
            "update=True: the samples shown no longer exist; run it again without update"
        )
    if changed := before.changed(vectors.take(old)):
        raise UserError(
            f"update=True: {changed:,} embeddings of the samples shown have changed since; run "
            "it again without update"
        )
    points = np.zeros((len(old), before.points.shape[1]), np.float32)
    points[old] = [old_points[id_] for id_, known in zip(vectors.ids, old) if known]
    if not old.all():
        points[~old] = _new_points(vectors, old, points[old], before)
    special: dict[str, Any] = {"added": int((~old).sum()), "notes": []}
    if projection := before.facts.special.get("projection"):
        special["projection"] = projection
    return points, special


def _new_points(
    vectors: VectorSet, old: np.ndarray, old_points: np.ndarray, before: StoredVisualization
) -> np.ndarray:
    parameters = before.facts.parameters
    if parameters["method"] == "pca":
        projection = before.facts.special["projection"]
        mean, components = (np.float32(projection[key]) for key in ("mean", "components"))
        return (vectors.matrix[~old] - mean) @ components.T
    from ..analysis.umap_layout import umap_transform

    return umap_transform(
        vectors.matrix[~old],
        vectors.matrix[old],
        old_points,
        parameters["n_neighbors"],
        parameters["min_dist"],
        parameters["seed"],
    )


def trust_verdict(trust: PlotTrust) -> str:
    """What the two figures mean, in a sentence."""
    if trust.k == 0:
        return "too few points to evaluate"
    share = f"{percent(trust.neighbor_preservation)} of the nearest neighbors are preserved"
    if trust.trustworthiness >= 0.95:
        return f"points close together are similar; {share}"
    if trust.trustworthiness >= 0.8:
        return f"fair: some neighbors in the plot are not similar; {share}"
    return (
        "do not interpret clusters in this plot: its neighbors are hardly similar (noise has "
        f"0.5); {share}"
    )
