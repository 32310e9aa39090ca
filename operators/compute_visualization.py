"""``compute_visualization``: UMAP, t-SNE and PCA maps for FiftyOne's Embeddings panel."""

import dataclasses
import time
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from ..analysis.trust import MapTrust, map_trust
from ..errors import UserError
from ..storage.graphs import get_graph
from ..storage.labels import label_fields, read_labels
from ..storage.maps import StoredMap, read_map, write_map
from ..storage.runs import check_name
from ..storage.targets import Target, resolve_target
from ..storage.vectors import VectorSet, read_vectors
from .base import QualityOperator, choice_input, embeddings_input, patches_input, skipped_lines
from .progress import Progress, duration

METHODS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}

# For the forecast in the form, on two cores.
SECONDS_PER_POINT = {"umap": 2e-4, "tsne": 1e-3, "pca": 2e-5}

# The parameters that are checked together.
RANGES = ("method", "num_dims", "n_neighbors", "min_dist", "perplexity", "label_field", "seed")


class ComputeVisualization(QualityOperator):
    name = "compute_visualization"
    label = "Quality: compute visualization"
    description = (
        "Map stored embeddings of images or object patches to 2-D or 3-D with UMAP, t-SNE or PCA "
        "for FiftyOne's Embeddings panel, and measure how far the map can be trusted"
    )
    icon = "bubble_chart"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        patches_field: str | None = None,
        brain_key: str | None = None,
        method: str = "umap",
        num_dims: int = 2,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        perplexity: float = 30.0,
        label_field: str | None = None,
        spatial_index: bool = False,
        update: bool = False,
        seed: int | None = 51,
    ) -> dict[str, Any]:
        """Maps stored vectors and stores the map as FiftyOne's brain run of the method.

        Args:
            samples: a dataset or view
            embeddings: the field of the vectors
            patches_field (None): the field of the objects whose vectors are mapped
            brain_key (None): the name of the brain run, by default ``<embeddings>_<method>``;
                an earlier map of the plugin of that name is replaced
            method ("umap"): ``umap``, ``tsne`` or ``pca``
            num_dims (2): 2 or 3
            n_neighbors (15): UMAP: more keep larger structures
            min_dist (0.1): UMAP: how close points may lie, from 0 to 1
            perplexity (30.0): t-SNE: how many neighbours count
            label_field (None): UMAP: pulls samples of the same label together (supervised); the
                map then shows the labels as much as the vectors
            spatial_index (False): create FiftyOne's spatial index, for lassos on large sets
            update (False): place samples that are not in the UMAP or PCA map yet into it; the
                points of the others stay where they are
            seed (51): the same seed gives the same map, for whatever order of the samples;
                None draws one. It costs no speed

        Returns:
            a dict with ``brain_key``, ``num_points``, ``trustworthiness``,
            ``neighbor_preservation``, ``trust``, ``notes``, ``skipped``, ``seconds``, …

        Raises:
            UserError: if the input is at fault; an earlier map then stays
        """
        started = time.monotonic()
        _check_ranges(method, num_dims, n_neighbors, min_dist, perplexity, label_field, seed)
        target = resolve_target(samples, patches_field)
        brain_key = brain_key or default_key(target, embeddings, method)
        check_name("brain_key", brain_key)
        before = read_map(target, brain_key)
        if update and before is None:
            raise UserError(
                f"update=True: there is no map {brain_key!r} yet; compute it without update first"
            )
        progress.say("Reading the vectors")
        if update:
            target = _widened(target, before)
        vectors = read_vectors(target, embeddings)
        if update:
            parameters = dict(before.facts["parameters"])
            if parameters["embeddings"] != embeddings:
                raise UserError(
                    f"update=True: the map {brain_key!r} shows {parameters['embeddings']!r}, not "
                    f"{embeddings!r}"
                )
            points, added = _place(vectors, before, progress)
            result = {"added": added, "notes": []}
            if "projection" in before.facts:
                result["projection"] = before.facts["projection"]
        else:
            parameters = {
                "embeddings": embeddings,
                "method": method,
                "n_neighbors": n_neighbors,
                "min_dist": min_dist,
                "perplexity": perplexity,
                "label_field": label_field,
                "seed": seed,
            }
            points, result = _lay_out(target, vectors, parameters, num_dims, progress)

        progress.say("Measuring how far the map can be trusted")
        trust = map_trust(vectors.matrix, points)
        result = {
            "brain_key": brain_key,
            "patches_field": target.patches_field,
            "whole": target.is_whole,
            "num_points": len(points),
            "num_dims": int(points.shape[1]),
            "trustworthiness": round(trust.trustworthiness, 4),
            "neighbor_preservation": round(trust.neighbor_preservation, 4),
            "trust": _verdict(trust),
            "trust_sample": trust.num_sampled,
            "read": len(points) + sum(vectors.skipped.values()),
            "skipped": vectors.skipped,
            "parameters": parameters,
            "fingerprint": vectors.fingerprint,
            **result,
            "seconds": round(time.monotonic() - started, 2),
        }
        progress.say("Storing the map")
        write_map(target, brain_key, vectors, points, facts=result, spatial_index=spatial_index)
        result.pop("projection", None)
        return result

    def shown(self, parameters: dict[str, Any]) -> dict[str, Any]:
        hidden = {} if parameters["method"] == "umap" else {"label_field": None}
        if parameters["method"] == "tsne":
            hidden["update"] = False
        return parameters | hidden

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Map")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        methods = types.RadioGroup(orientation="horizontal")
        methods.add_choice("umap", label="UMAP", description="Neighbourhoods and clusters")
        methods.add_choice("tsne", label="t-SNE", description="Neighbourhoods, evenly spread")
        methods.add_choice("pca", label="PCA", description="Linear: the largest variance")
        inputs.enum("method", methods.values(), default="umap", view=methods, label="Method")
        method = params["method"]
        key = params["brain_key"] or default_key(target, embeddings, method)
        inputs.str(
            "brain_key",
            label="Name of the map",
            description="The Embeddings panel lists it under this name",
            view=types.View(placeholder=default_key(target, embeddings, method)),
        )
        check_name("brain_key", key)
        before = read_map(target, key)
        if before is not None and method != "tsne":
            inputs.bool(
                "update",
                default=False,
                label="Only place new samples",
                description="The points that are on the map stay where they are",
            )
        inputs.bool("more_options", default=False, label="More options", view=types.SwitchView())
        if ctx.params.get("more_options"):
            _more_inputs(target, method, inputs)
        _check_ranges(*(params[name] for name in RANGES))
        count = len(target.ids(having=embeddings))
        text = f"{count:,} of {len(target.ids()):,} {target.things} have vectors and will be mapped"
        if before is not None and not params["update"]:
            text += f"; the present map {key} of {len(before.ids):,} is replaced"
        seconds = 5 + count * SECONDS_PER_POINT[method]
        inputs.view("plan", types.Notice(label=f"{text}, which takes roughly {duration(seconds)}"))

    def summary(self, result: dict[str, Any]) -> str:
        things = "objects" if result["patches_field"] else "samples"
        parameters = result["parameters"]
        lines = [
            f"**{METHODS[parameters['method']]} map of {result['num_points']:,} {things}** in "
            f"`{result['brain_key']}`, from `{parameters['embeddings']}`: open FiftyOne's "
            "**Embeddings** panel and choose it there",
            f"- trustworthiness **{result['trustworthiness']:.3f}**, neighbour preservation "
            f"**{result['neighbor_preservation']:.3f}**: {result['trust']}",
        ]
        if "added" in result:
            lines.append(f"- {result['added']:,} {things} were new and placed into the map")
        lines += [f"- {note}" for note in result["notes"]]
        lines += skipped_lines({**result, "things": things})
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)


def default_key(target: Target, embeddings: str, method: str) -> str:
    """The name of a map: ``clip_umap``, or ``ground_truth_detections_clip_umap`` of objects."""
    return f"{target.dataset_path(embeddings).replace('.', '_')}_{method}"


def _check_ranges(
    method: str,
    num_dims: int,
    n_neighbors: int,
    min_dist: float,
    perplexity: float,
    label_field: str | None,
    seed: int | None,
) -> None:
    if method not in METHODS:
        raise UserError(f"method={method!r} is not known; choose {', '.join(map(repr, METHODS))}")
    if num_dims not in (2, 3):
        raise UserError(f"num_dims={num_dims} must be 2 or 3")
    if n_neighbors < 2:
        raise UserError(f"n_neighbors={n_neighbors} must be at least 2")
    if not 0 <= min_dist <= 1:
        raise UserError(f"min_dist={min_dist} must be between 0 and 1")
    if not 1 < perplexity < 1000:
        raise UserError(f"perplexity={perplexity} must be above 1 and below 1,000")
    if seed is not None and not 0 <= seed < 2**32:
        raise UserError(f"seed={seed} must be between 0 and 2**32 - 1, or None")
    if label_field is not None and method != "umap":
        raise UserError(f"label_field= pulls labels together in UMAP only, not in {method!r}")


def _lay_out(
    target: Target,
    vectors: VectorSet,
    parameters: dict[str, Any],
    num_dims: int,
    progress: Progress,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The points of a new map, and what there is to say about it."""
    method, seed = parameters["method"], parameters["seed"]
    if method == "pca":
        from ..analysis.pca_layout import pca_layout

        progress.say("Computing principal components")
        layout = pca_layout(vectors.matrix, num_dims)
        variance = [round(float(share), 4) for share in layout.variance_share]
        return layout.points, {
            "notes": list(layout.notes),
            "variance_share": variance,
            # With which new samples are placed, whatever becomes of the ones of today.
            "projection": {"mean": layout.mean.tolist(), "components": layout.components.tolist()},
        }

    # Imported here: they bring numba, which takes a second.
    from ..analysis.tsne_layout import tsne_layout, tsne_neighbors
    from ..analysis.umap_layout import umap_layout

    perplexity, n_neighbors = parameters["perplexity"], parameters["n_neighbors"]
    k = tsne_neighbors(perplexity) if method == "tsne" else n_neighbors - 1
    rows = len(vectors.ids)
    with progress.share("Finding the nearest neighbours", rows, target.things) as report:
        graph, stored = get_graph(target, parameters["embeddings"], vectors, k, seed, report)
    progress.say(f"Laying out the map by {METHODS[method]}")
    if method == "tsne":
        layout = tsne_layout(vectors.matrix, graph, num_dims, perplexity, seed)
    else:
        labels = None
        if parameters["label_field"] is not None:
            names = read_labels(target, parameters["label_field"], vectors.ids)
            codes = {name: code for code, name in enumerate(sorted({n for n in names if n}))}
            labels = np.array([codes.get(name, -1) for name in names])
        layout = umap_layout(
            vectors.matrix, graph, num_dims, n_neighbors, parameters["min_dist"], seed, labels
        )
    return layout.points, {
        "notes": list(layout.notes),
        "graph": {"method": graph.method, "recall": round(graph.recall, 4), "reused": stored},
    }


def _widened(target: Target, before: StoredMap) -> Target:
    """What is on a map already together with what shall be placed into it."""
    samples = sorted({*before.sample_ids, *target.view.values("id")})
    objects = None if target.patches_field is None else frozenset({*before.ids, *target.ids()})
    view = target.all_samples.select(samples)
    return dataclasses.replace(target, view=view, object_ids=objects)


def _place(vectors: VectorSet, before: StoredMap, progress: Progress) -> tuple[np.ndarray, int]:
    """The points of a map's samples, where they were, and of new ones; and how many are new."""
    from ..analysis.umap_layout import umap_transform

    parameters, projection = before.facts["parameters"], before.facts.get("projection")
    if parameters["method"] == "tsne":
        raise UserError("update=True: t-SNE cannot place new samples; compute the map anew")
    progress.say("Placing the new samples")
    old_points = dict(zip(before.ids, before.points))
    old = np.array([id_ in old_points for id_ in vectors.ids])
    points = np.zeros((len(old), before.points.shape[1]), np.float32)
    if not old.any():
        raise UserError("update=True: the map's samples are gone; compute the map anew")
    mapped = vectors.take(old)
    if len(mapped.ids) == len(before.ids) and mapped.fingerprint != before.facts["fingerprint"]:
        raise UserError(
            "update=True: the vectors of samples on the map have changed since; compute it anew"
        )
    points[old] = [old_points[id_] for id_, known in zip(vectors.ids, old) if known]
    if not old.all():
        if parameters["method"] == "pca":
            mean, components = (np.float32(projection[key]) for key in ("mean", "components"))
            points[~old] = (vectors.matrix[~old] - mean) @ components.T
        else:
            points[~old] = umap_transform(
                vectors.matrix[~old],
                vectors.matrix[old],
                points[old],
                parameters["n_neighbors"],
                parameters["min_dist"],
                parameters["seed"],
            )
    return points, int((~old).sum())


def _verdict(trust: MapTrust) -> str:
    """What the two figures mean, in a sentence."""
    if trust.k == 0:
        return "too few points to tell"
    share = f"{trust.neighbor_preservation:.0%} of the nearest neighbours are the same"
    if trust.trustworthiness >= 0.95:
        return f"what lies together on the map is alike; {share}"
    if trust.trustworthiness >= 0.8:
        return f"a fair picture, in which some neighbours are not alike; {share}"
    return (
        f"do not read clusters into this map, its neighbours are hardly alike (noise has 0.5); "
        f"{share}"
    )


def _more_inputs(target: Target, method: str, inputs: types.Object) -> None:
    inputs.int("num_dims", default=2, min=2, max=3, label="Dimensions")
    if method == "umap":
        inputs.int(
            "n_neighbors",
            default=15,
            min=2,
            label="Neighbours",
            description="More of them keep larger structures",
        )
        inputs.float(
            "min_dist",
            default=0.1,
            min=0,
            max=1,
            label="Minimum distance",
            description="How close points may lie",
        )
        choice_input(
            inputs,
            "label_field",
            label_fields(target),
            label="Pull together the labels of",
            description="Supervised UMAP: shows the labels as much as the vectors",
            none="Nothing",
        )
    if method == "tsne":
        inputs.float(
            "perplexity",
            default=30,
            min=1,
            label="Perplexity",
            description="How many neighbours count",
        )
    inputs.bool(
        "spatial_index",
        default=False,
        label="Spatial index",
        description="Makes the lasso fast on large sets; adds a field of the map's name",
    )
    inputs.int("seed", default=51, label="Seed")
