"""``find_outliers``: what is unlike the others, and images without content."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.outliers import OUTLIERS, find_outliers
from ..checks.parameters import checked_threshold
from ..checks.progress import Progress, counted, duration
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
from .words import skipped_lines

# For the forecast in the form, on two cores.
IMAGES_PER_SECOND, SECONDS_PER_EMBEDDING, STARTING_SECONDS = 300, 1e-4, 4


class FindOutliers(QualityOperator):
    name = OUTLIERS.name
    label = "Quality: find outliers"
    description = (
        "Score how unusual each image or patch is compared with its neighbors and its class; "
        "flag outliers in the whole dataset and in their own class, groups unlike the rest, and "
        "images with low information (dark, bright, uniform color, blurry) or an unusual size"
    )
    icon = "flare"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        patches_field: str | None = None,
        label_field: str | None = None,
        threshold: str | float = "auto",
        check_pictures: bool = True,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Scores and flags outliers.

        Duplicates do not make each other look typical, if ``find_duplicates`` was run before.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            patches_field (None): the field of the patches whose embeddings are evaluated
            label_field (None): a label field: what is unlike its own class is found as well; of
                patches, the patches field
            threshold ("auto"): the lowest score that is flagged, from 0 to 1; by default it adapts
                to the scores
            check_pictures (True): also flag images that are dark, bright, blurry, of uniform
                color or unusual size or aspect ratio, which reads all files; not for texts
            run_key (None): the name of the run, by default ``outliers``
            seed (51): of the neighbor search, where that is approximate
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``flagged``, ``reasons``, ``groups`` (unlike the rest as a whole, not
            flagged one by one), ``threshold``, ``skipped``, …

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
        return find_outliers(
            inputs, threshold=threshold, check_pictures=check_pictures, run_key=run_key
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Evaluate")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        labels_input(target, inputs, "Also finds outliers within their class", required=False)
        inputs.str(
            "threshold",
            default="auto",
            label="Threshold",
            description="The lowest flagged score, from 0 to 1; auto adapts to the dataset",
        )
        inputs.bool(
            "check_pictures",
            default=True,
            label="Read the images",
            description="Flags images that are dark, bright, blurry, of uniform color or unusual "
            "size; reads all files",
        )
        run_key_input(ctx, target, self.name, OUTLIERS.columns, [*OUTLIERS.views], inputs)
        checked_threshold(params["threshold"])
        each = 1 / IMAGES_PER_SECOND if params["check_pictures"] else SECONDS_PER_EMBEDDING
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, each)

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        count = counted(result["flagged"], "outlier")
        lines = [
            f"**{count}** flagged among {result['judged']:,} {noun}"
            + (f": saved view {code(f'{key}: flagged')}, worst first" if result["flagged"] else "")
        ]
        lines += [f"- {count:,} {markdown(why)}" for why, count in result["reasons"].items()]
        for group in result["groups"]:
            lines.append(
                f"- **a group of {group['count']:,}** similar {noun} unlike the rest: saved view "
                f"{code(f'{key}: groups')}, `group` {group['group']}; not counted as outliers"
            )
        for reason in result["common"]:
            lines.append(
                f"- {markdown(reason)}: affects over 20 % of {noun}, so treated as normal for this "
                "dataset"
            )
        if result["duplicates"] is None:
            lines.append(
                "- duplicates of an unusual image make each other look typical; run "
                "`find_duplicates` first"
            )
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
