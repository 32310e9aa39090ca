"""``compute_visualization``: UMAP, t-SNE and PCA visualizations for FiftyOne's Embeddings panel."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.progress import Progress, duration
from ..checks.visualization import (
    METHODS,
    VISUALIZATION,
    Layout,
    compute_visualization,
    default_brain_key,
)
from ..markup import code, markdown
from ..storage.labels import label_fields
from ..storage.names import check_name
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.visualizations import read_visualization
from .base import QualityOperator
from .form_fields import choice_input, embeddings_input, patches_input
from .words import skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_POINT = {"umap": 2e-4, "tsne": 1e-3, "pca": 2e-5}

# The parameters of a layout.
LAYOUT = (
    *("method", "num_dims", "n_neighbors", "min_dist", "perplexity", "label_field", "seed"),
    *("implementation", "options"),
)

# What a form that shows another method still sends.
UMAP_ONLY = {"label_field": None, "implementation": "auto", "options": None}


class ComputeVisualization(QualityOperator):
    name = VISUALIZATION.name
    label = "Quality: compute visualization"
    description = (
        "Visualize embeddings of images or patches in 2-D or 3-D with UMAP, t-SNE or PCA for "
        "FiftyOne's Embeddings panel, and measure how far the plot can be trusted"
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
        implementation: str = "auto",
        options: dict | None = None,
        seed: int | None = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Lays out stored embeddings and stores the plot as FiftyOne's brain run of the method.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            patches_field (None): the field of the objects whose embeddings are laid out
            brain_key (None): the name of the brain run, by default ``<embeddings>_<method>``;
                an earlier visualization of the plugin of that name is replaced
            method ("umap"): ``umap``, ``tsne`` or ``pca``
            num_dims (2): 2 or 3
            n_neighbors (15): UMAP: more keep larger structures
            min_dist (0.1): UMAP: how close points may lie, from 0 to 1
            perplexity (30.0): t-SNE: how many neighbors count
            label_field (None): UMAP: pulls samples of the same label together (supervised); the
                plot then shows the labels as much as the embeddings
            spatial_index (False): create FiftyOne's spatial index, for lassos on large sets
            update (False): place samples that are not in the UMAP or PCA plot yet into it; the
                points of the others stay where they are
            implementation ("auto"): of UMAP: ``"umap-learn"`` runs that library on the stored
                neighbors, which takes longer; the default is the plugin's own
            options (None): of umap-learn: further arguments of ``umap.UMAP``, ``densmap`` say
            seed (51): the same seed gives the same plot, for whatever order of the samples;
                None draws one. It costs no speed
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``brain_key``, ``num_points``, ``trustworthiness``,
            ``neighbor_preservation``, ``trust``, ``notes``, ``skipped``, ``seconds``, …

        Raises:
            UserError: if the input is at fault; an earlier visualization then stays
        """
        layout = Layout(
            method,
            num_dims,
            n_neighbors,
            min_dist,
            perplexity,
            label_field,
            seed,
            implementation,
            options,
        )
        inputs = Inputs(
            resolve_target(samples, patches_field),
            progress,
            embeddings=embeddings,
            seed=51 if seed is None else seed,
            neighbors=neighbors,
        )
        return compute_visualization(
            inputs,
            layout,
            brain_key=brain_key,
            spatial_index=spatial_index,
            update=update,
        )

    def shown(self, parameters: dict[str, Any]) -> dict[str, Any]:
        hidden: dict[str, Any] = {} if parameters["method"] == "umap" else {**UMAP_ONLY}
        if parameters["method"] == "tsne":
            hidden["update"] = False
        return parameters | hidden

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Visualize")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        methods = types.RadioGroup(orientation="horizontal")
        methods.add_choice("umap", label="UMAP", description="Neighborhoods and clusters")
        methods.add_choice("tsne", label="t-SNE", description="Neighborhoods, evenly spread")
        methods.add_choice("pca", label="PCA", description="Linear: the largest variance")
        inputs.enum("method", methods.values(), default="umap", view=methods, label="Method")
        method = params["method"]
        key = params["brain_key"] or default_brain_key(target, embeddings, method)
        inputs.str(
            "brain_key",
            label="Name of the visualization",
            description="The Embeddings panel lists it under this name",
            view=types.View(placeholder=default_brain_key(target, embeddings, method)),
        )
        check_name("brain_key", key)
        before = read_visualization(target, key)
        if before is not None and method != "tsne":
            inputs.bool(
                "update",
                default=False,
                label="Add new samples only",
                description="Existing points keep their positions",
            )
        inputs.bool("more_options", default=False, label="More options", view=types.SwitchView())
        if ctx.params.get("more_options"):
            _more_inputs(target, method, inputs)
        Layout(**{name: params[name] for name in LAYOUT})  # refuses what is out of range
        count = len(target.ids(having=embeddings))
        text = f"{count:,} of {len(target.ids()):,} {target.noun} have embeddings and will be shown"
        if before is not None and not params["update"]:
            text += f"; the present {key} of {len(before.ids):,} is replaced"
        seconds = 5 + count * SECONDS_PER_POINT[method]
        inputs.view("plan", types.Notice(label=f"{text}, which takes about {duration(seconds)}"))

    def summary(self, result: dict[str, Any]) -> str:
        noun, parameters = result["things"], result["parameters"]
        lines = [
            f"**{METHODS[parameters['method']]} plot of {result['num_points']:,} {noun}** in "
            f"{code(result['brain_key'])}, from {code(parameters['embeddings'])}: open FiftyOne's "
            "**Embeddings** panel and choose it there",
            f"- trustworthiness **{result['trustworthiness']:.3f}**, neighbor preservation "
            f"**{result['neighbor_preservation']:.3f}**: {result['trust']}",
        ]
        if "added" in result:
            lines.append(f"- {result['added']:,} {noun} were new and were added to the plot")
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _more_inputs(target: Target, method: str, inputs: types.Object) -> None:
    inputs.int("num_dims", default=2, min=2, max=3, label="Dimensions")
    if method == "umap":
        inputs.int(
            "n_neighbors",
            default=15,
            min=2,
            label="Neighbors",
            description="More neighbors preserve larger structures",
        )
        inputs.float(
            "min_dist",
            default=0.1,
            min=0,
            max=1,
            label="Minimum distance",
            description="How close points may be placed",
        )
        choice_input(
            inputs,
            "label_field",
            label_fields(target),
            label="Pull together the labels of",
            description="Supervised UMAP: the plot reflects the labels as much as the embeddings",
            none="Nothing",
        )
        choice_input(
            inputs,
            "implementation",
            {"auto": "Built in (fast)", "umap-learn": "umap-learn (reference implementation)"},
            label="Implementation",
        )
    if method == "tsne":
        inputs.float(
            "perplexity",
            default=30,
            min=1,
            label="Perplexity",
            description="How many neighbors count",
        )
    inputs.bool(
        "spatial_index",
        default=False,
        label="Spatial index",
        description="Makes lasso selection fast on large datasets; adds a field of the same name",
    )
    inputs.int("seed", default=51, label="Seed")
