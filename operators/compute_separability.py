"""``compute_separability``: which classes the embeddings separate, and which they confuse."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration, percent
from ..checks.separability import SEPARABILITY, compute_separability
from ..errors import UserError
from ..markup import code, markdown
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import OPEN_PANEL, QualityOperator
from .form_fields import (
    NOT_CHOSEN,
    choice_input,
    embeddings_input,
    evaluation_notice,
    labels_input,
    patches_input,
    run_key_input,
)
from .words import skipped_lines

PANEL = "class_separability"

# Classes and pairs that the summary names.
NAMED = 5

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 2e-4, 4


class ComputeSeparability(QualityOperator):
    name = SEPARABILITY.name
    label = "Quality: compute class separability"
    description = (
        "Measure how well the embeddings separate each class from the others (held-out recall, "
        "neighbor purity, silhouette, Fisher ratio), which classes are confused with which, and "
        "which samples cause it; compare embeddings and the slices of a metadata field"
    )
    icon = "scatter_plot"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | list,
        label_field: str,
        patches_field: str | None = None,
        by: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Measures how well the classes are separated, in the original space.

        Every sample is evaluated by what was learned without it and without its duplicates, if
        ``find_duplicates`` was run before. The panel "Class separability" shows the stored run.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings; several are compared with each other on the
                samples that have all of them, and the measures are those of the first
            label_field: the field of the classes; of patches, the patches field
            patches_field (None): the field of the patches whose embeddings are evaluated
            by (None): a metadata field: separability within its slices, and how well the field
                itself can be predicted from the embeddings
            run_key (None): the name of the run, by default ``separability``
            seed (51): of everything random
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``overall``, ``classes`` (worst first), ``pairs`` (least due to chance
            first), ``comparison`` of the embeddings, ``slices`` and ``field_prediction`` of
            ``by``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        names = [embeddings] if isinstance(embeddings, str) else list(embeddings)
        if not names or not all(isinstance(name, str) for name in names):
            raise UserError("embeddings= must be the name of a field or a list of names")
        target = resolve_target(samples, patches_field)
        common: dict[str, Any] = {
            "label_field": label_field,
            "seed": seed,
            "neighbors": neighbors,
        }
        inputs = [Inputs(target, progress, embeddings=name, **common) for name in names]
        if len({each.embeddings for each in inputs}) < len(inputs):
            raise UserError("embeddings= names the same field twice")
        return compute_separability(inputs, by=by, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Evaluate")
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        embeddings = embeddings_input(ctx, target, inputs)
        if len(fields) > 1:
            choice_input(
                inputs,
                "compare_with",
                [name for name in fields if name != embeddings],
                label="Compare with",
                description="Which of the two embeddings separates the classes better",
                none="None",
            )
        labels_input(target, inputs, "The classes")
        inputs.str(
            "by",
            label="By",
            description="A field such as source or split: reports separability within its "
            "slices, and whether the embeddings predict it",
        )
        run_key_input(ctx, target, self.name, (), (), inputs)
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        other = given.pop("compare_with", None)
        if other not in (None, "", NOT_CHOSEN, given.get("embeddings")):
            given["embeddings"] = [given["embeddings"], other]
        return given

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        return [("Open the panel", OPEN_PANEL, {"name": PANEL, "layout": "horizontal"})]

    def summary(self, result: dict[str, Any]) -> str:
        overall, noun = result["overall"], result["things"]
        lines = [
            f"**Balanced accuracy {percent(overall['balanced_accuracy'])}** of the held-out "
            f"predictions of {overall['classes']:,} classes ({overall['samples']:,} {noun}), "
            f"neighbor purity {percent(overall['purity'])} "
            f"(by chance {percent(overall['purity_expected'])}): open the panel **Class "
            f"separability**, run {code(result['run_key'])}",
            f"- {counted(overall['pairs_above_chance'], 'pair')} of classes confused beyond chance",
        ]
        lines += [
            f"- {markdown(row['label'])}: {markdown(row['verdict'])}"
            for row in result["classes"][:NAMED]
        ]
        if result["comparison"]:
            lines.append(f"- {markdown(result['comparison']['verdict'])}")
        if result["field_prediction"]:
            lines.append(
                f"- {code(result['parameters']['by'])}: "
                f"{markdown(result['field_prediction']['verdict'])}"
            )
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
