"""``find_label_issues``: labels that are likely wrong, by cleanlab on held-out evidence."""

from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.label_issue_columns import LABEL_ISSUES, columns_of
from ..checks.label_issues import find_label_issues
from ..checks.progress import Progress, counted, duration, percent
from ..markup import code, markdown
from ..storage.labels import label_fields
from ..storage.paths import document_type
from ..storage.predictions import prediction_fields
from ..storage.reviews import REVIEW_COLUMNS
from ..storage.target import Target
from ..storage.targets import resolve_target
from .base import QualityOperator, show_labels
from .form_fields import (
    choice_input,
    embeddings_input,
    evaluation_notice,
    labels_input,
    patches_input,
    run_key_input,
)
from .words import skipped_lines

# Reviews from which the measured precision is shown.
MIN_REVIEWS = 30

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 2e-4, 4


class FindLabelIssues(QualityOperator):
    name = LABEL_ISSUES.name
    label = "Quality: find label issues"
    description = (
        "Find labels that are likely wrong: cleanlab on held-out predictions from the embeddings, "
        "or on your own model's; ranks them, suggests the correct label and shows the evidence"
    )
    icon = "label_off"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        label_field: str,
        patches_field: str | None = None,
        predictions_field: str | None = None,
        threshold: str | float = "auto",
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Finds labels that are likely wrong. No label is changed.

        Every sample is evaluated by what was learned without it and without its duplicates, if
        ``find_duplicates`` was run before. Labels that ``review_label_issues`` has confirmed are
        not flagged again.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            label_field: the labels to evaluate: a Classification, Classifications, string, integer
                or boolean field, or a list of strings; of patches, the patches field
            patches_field (None): the field of the patches whose labels are evaluated
            predictions_field (None): the predictions of your own model, made out of sample: a
                Classification field with logits or confidences, in place of what the embeddings
                predict; for patches, a Detections field with confidences, of which cleanlab's
                ``object_detection`` finds wrong classes, badly placed boxes and missing ones,
                beside what the embeddings show
            threshold ("auto"): a number between 0 and 1 flags the labels of this quality or less
                beside which another one is likelier; by default as many are flagged as cleanlab
                and the evidence agree on. Their precision is then not estimated
            run_key (None): the name of the run, by default ``label_issues``
            seed (51): of everything random
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``flagged``, ``expected_precision`` (the share of the flags that are
            estimated to be correct; None where label noise cannot be separated from the
            classifier's own mistakes) and ``precision_range`` ([lowest, highest]), ``classes``,
            ``noise``, ``overlaps``, ``shared`` (classes of which a part is labeled as another one),
            ``warnings``, …; with predicted boxes, ``misplaced`` and ``missing``

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
        return find_label_issues(
            inputs, predictions_field=predictions_field, threshold=threshold, run_key=run_key
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Evaluate")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        several = label_fields(target, several=True)
        fields = labels_input(target, inputs, "The labels to evaluate", more=several)
        predictions = [name for name in fields if _holds_predictions(target, name)]
        if patches_field is not None:
            predictions = prediction_fields(target)
        if predictions:
            choice_input(
                inputs,
                "predictions_field",
                predictions,
                label="Predictions",
                description="Out-of-sample predictions of your own model",
                none="None: predict from the embeddings",
            )
        inputs.str(
            "threshold",
            default="auto",
            label="Threshold",
            description="Labels with a quality up to this value (0 to 1) are flagged, or auto",
        )
        columns = (*columns_of(target, detector=True), *REVIEW_COLUMNS)
        run_key_input(ctx, target, self.name, columns, ["flagged"], inputs)
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def afterwards(self, ctx: Any) -> list[Any]:
        return show_labels(ctx)

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        count = counted(result["flagged"], "label issue")
        lines = [f"**{count}** flagged among the labels of {result['judged']:,} {noun}"]
        if result["flagged"]:
            lines[0] += f": saved view {code(f'{key}: flagged')}, worst first"
        if result["expected_precision"] is not None:
            lines.append(
                f"- about **{round(result['flagged'] * result['expected_precision']):,}** of "
                f"them are expected to be correct ({_precision(result)}); review the first ones "
                "with `Quality: review label issues`"
            )
        reviews = result["reviews"]
        if reviews["flags_reviewed"] >= MIN_REVIEWS:
            lines.append(
                f"- {percent(reviews['measured_precision'])} of {reviews['flags_reviewed']:,} "
                "reviewed flags were correct"
            )
        if result.get("misplaced"):
            lines.append(f"- {counted(result['misplaced'], 'box')} badly localized")
        if result.get("missing"):
            lines.append(
                f"- {counted(result['missing'], 'object')} likely missing a label: saved view "
                f"{code(f'{key}: missing')}, boxes in the field {code(f'{key}_missing')}"
            )
        for view in result["pair_views"]:
            lines.append(
                f"- {view['count']:,} labeled {markdown(view['label'])} look like "
                f"{markdown(view['suggested'])} (saved view {code(view['name'])})"
            )
        lines += [f"- **{markdown(warning)}**" for warning in result["warnings"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _holds_predictions(target: Target, name: str) -> bool:
    if document_type(target.view.get_field(name)) is not fo.Classification:
        return False
    return target.view.exists(f"{name}.confidence").limit(1).count() > 0


def _precision(result: dict[str, Any]) -> str:
    """The estimate and its range: ``64 %, between 54 % and 90 %``."""
    low, high = result["precision_range"]
    share = result["expected_precision"]
    return f"{percent(share)}, between {percent(low)} and {percent(high)}"
