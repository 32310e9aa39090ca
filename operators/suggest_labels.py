"""``suggest_labels``: labels for what has none, with how sure they are."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration, percent
from ..checks.suggestions import SUGGESTIONS, checked_precision, columns_of, suggest_labels
from ..markup import code, markdown
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    embeddings_input,
    evaluation_notice,
    labels_input,
    patches_input,
    run_key_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 1e-4, 4


class SuggestLabels(QualityOperator):
    name = SUGGESTIONS.name
    label = "Quality: suggest labels"
    description = (
        "Suggest labels for unlabeled samples or patches from labeled ones (a few per class are "
        "enough), with calibrated confidence; accepts suggestions that are certain enough, and "
        "suggests nothing for samples that may belong to none of the classes"
    )
    icon = "new_label"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        label_field: str,
        precision: float = 0.95,
        patches_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Suggests labels for what has none. No label is written into ``label_field``.

        Args:
            samples: a dataset or view, some of it labeled and some not
            embeddings: the field of the embeddings
            label_field: the labels: a Classification, string, integer or boolean field; of
                patches, the patches field
            precision (0.95): the share of the accepted suggestions that must be right; the rest
                is left to review. It holds for what is of one of the classes
            patches_field (None): the field of the patches whose labels are suggested
            run_key (None): the name of the run, by default ``suggestions``
            seed (51): of the neighbor search, where that is approximate, and of the classifier
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``suggested`` (accepted ones), ``abstained``, ``unlike`` (of these, may be
            of none of the classes), ``expected_precision``, ``at_precision`` (how many would be
            accepted at which precision), ``warnings``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            resolve_target(samples, patches_field),
            progress,
            embeddings=embeddings,
            label_field=label_field,
            seed=seed,
            neighbors=neighbors,
        )
        return suggest_labels(inputs, precision=precision, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Suggest for")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        labels_input(target, inputs, "Labels are suggested where this field is empty")
        inputs.float(
            "precision",
            default=0.95,
            label="Precision",
            description="The required share of correct labels among accepted suggestions",
        )
        run_key_input(ctx, target, self.name, columns_of(target), [*SUGGESTIONS.views], inputs)
        checked_precision(ctx.params.get("precision") or 0.95)
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        lines = [
            f"**{counted(result['suggested'], 'label')}** suggested for the "
            f"{result['suggested'] + result['abstained']:,} {noun} without one, from "
            f"{result['labeled']:,} labels"
        ]
        if result["suggested"]:
            lines[0] += f": saved view {code(f'{key}: accepted')}, least certain first"
            lines.append(
                f"- {percent(result['expected_precision'])} of them are expected to be correct"
            )
        lines.append(
            f"- {counted_of(result['abstained'], noun)} left for review: saved view "
            f"{code(f'{key}: to review')}"
            + (
                f"; {result['unlike']:,} of them may belong to none of the classes and have no "
                "suggestion"
                if result["unlike"]
                else ""
            )
        )
        counts = result["at_precision"]
        table = [f"{row['suggested']:,} at {percent(row['precision'])}" for row in counts]
        lines.append(f"- labels by required precision: {', '.join(table)}")
        if result["held_out"]:
            lines.append(
                f"- {percent(result['held_out_accuracy'])} of "
                f"{counted(result['held_out'], 'label')} predicted correctly from the others"
            )
        lines += [f"- **{markdown(warning)}**" for warning in result["warnings"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
