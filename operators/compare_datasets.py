"""``compare_datasets``: new images, or another dataset or split, against this one."""

from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..checks.comparison import COMPARISON, compare_datasets
from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration
from ..errors import UserError
from ..markup import code
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    choice_input,
    embeddings_input,
    evaluation_notice,
    patches_input,
    run_key_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores.
IMAGES_PER_SECOND, STARTING_SECONDS = 100, 5


class CompareDatasets(QualityOperator):
    name = COMPARISON.name
    label = "Quality: compare datasets"
    description = (
        "Compare these samples with another dataset or a saved view: what is in both, what is "
        "new, what is missing, and whether the two differ beyond chance"
    )
    icon = "compare"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        other: str,
        patches_field: str | None = None,
        check_pictures: bool = True,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Compares a dataset or view with another one; nothing is written to the other one.

        Args:
            samples: a dataset or view, new images say
            embeddings: the field of the embeddings, of both, by the same model
            other: the name of a saved view of this dataset, or of another dataset. What is in both
                is taken from the larger one: the whole dataset stands for what the view leaves out
            patches_field (None): the field of the patches whose embeddings are compared, of both
            check_pictures (True): look for duplicates across, which reads the files; not for
                embeddings of texts
            run_key (None): the name of the run, by default ``comparison``
            seed (51): of everything random

        Returns:
            a dict with ``new``, ``missing`` (``missing_ids`` names them), ``duplicates`` and
            ``drift``: whether the two ``differ``, which two halves of one set do in at most 5 % of
            cases, and ``auc``, how well a classifier distinguishes them, with its 95 % interval

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            resolve_target(samples, patches_field), progress, embeddings=embeddings, seed=seed
        )
        return compare_datasets(inputs, other=other, check_pictures=check_pictures, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Compare")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        options = {name: f"Saved view {name}" for name in target.dataset.list_saved_views()}
        options |= {name: name for name in fo.list_datasets() if name != target.dataset.name}
        if not options:
            raise UserError("There is no other dataset and no saved view to compare with")
        choice_input(inputs, "other", options, label="Compare with")
        inputs.bool(
            "check_pictures",
            default=True,
            label="Look for duplicates across",
            description="Reads the files of both",
        )
        run_key_input(ctx, target, self.name, COMPARISON.columns, [*COMPARISON.views], inputs)
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, 1 / IMAGES_PER_SECOND)

    def summary(self, result: dict[str, Any]) -> str:
        noun, drift = result["things"], result["drift"]
        other = code(result["parameters"]["other"])
        lines = [
            f"**{counted_of(result['new'], noun)} new** among {result['judged']:,}, against "
            f"{result['compared_with']:,} of {other}",
            f"- {counted_of(result['missing'], noun)} of {other} missing here",
        ]
        if result["duplicates"] is not None:
            lines.append(f"- {counted_of(result['duplicates'], noun)} already in {other}")
        auc = (
            ""
            if drift["auc"] is None
            else (
                f" (a classifier separates them with AUC {drift['auc']:.2f}, "
                f"{drift['auc_low']:.2f} to {drift['auc_high']:.2f}; 0.5 is chance)"
            )
        )
        if drift["differ"]:
            lines.append(f"- **the two differ** beyond chance{auc}")
            more, less = drift["clusters_with_more"], drift["clusters_with_less"]
            if more or less:
                lines.append(
                    f"- of {counted(drift['clusters'], 'common cluster')}, {more:,} with more of "
                    f"these and {less:,} with more of {other}"
                )
        else:
            lines.append(f"- no difference beyond chance{auc}")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
