"""``find_outliers``: what is unlike the others, and pictures without content."""

import time
from collections import Counter
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types
import numpy as np
from fiftyone import ViewField as F

from ..storage.findings import Column, matching_view, plan_findings, store_findings
from ..storage.targets import resolve_target
from .base import (
    QualityOperator,
    checked_threshold,
    embeddings_input,
    judging_notice,
    labels_input,
    patches_input,
    run_key_input,
    skipped_lines,
)
from .inputs import Inputs
from .progress import Progress, counted, duration

VIEWS = ("flagged",)
COLUMNS = ("score", "flagged", "reason")

OF_THE_SET, OF_ITS_CLASS = "unlike the whole set", "unlike its class"

# For the forecast in the form, on two cores.
PICTURES_PER_SECOND, SECONDS_PER_VECTOR, STARTING_SECONDS = 300, 1e-4, 4


class FindOutliers(QualityOperator):
    name = "find_outliers"
    label = "Quality: find outliers"
    description = (
        "Score how unlike the others each image or object patch is, from its neighbours and the "
        "classes, flag outliers of the whole set and of their own class, and pictures that are "
        "dark, bright, of one colour, blurred or of odd size"
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
    ) -> dict[str, Any]:
        """Scores and flags outliers.

        Members of a duplicate group do not vouch for each other, if ``find_duplicates`` was run
        before.

        Args:
            samples: a dataset or view
            embeddings: the field of the vectors
            patches_field (None): the field of the objects whose vectors are judged
            label_field (None): a label field: what is unlike its own class is found as well; of
                objects, the patches field
            threshold ("auto"): the lowest score that is flagged, from 0 to 1; by default it adapts
                to the scores
            check_pictures (True): also flag pictures that are dark, bright, of one colour, blurred
                or of odd size or aspect ratio, which reads all files
            run_key (None): the name of the run, by default ``outliers``
            seed (51): of the neighbour search, where that is approximate

        Returns:
            a dict with ``flagged``, ``reasons``, ``threshold``, ``skipped``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            samples,
            progress,
            embeddings=embeddings,
            patches_field=patches_field,
            label_field=label_field,
            seed=seed,
        )
        return find_and_store(
            inputs, threshold=threshold, check_pictures=check_pictures, run_key=run_key
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Judge")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        labels_input(target, inputs, "Finds what is unlike its own class as well", required=False)
        inputs.str(
            "threshold",
            default="auto",
            label="Threshold",
            description="The lowest score that is flagged, from 0 to 1; auto adapts to the scores",
        )
        inputs.bool(
            "check_pictures",
            default=True,
            label="Look at the pixels",
            description="Flags pictures that are dark, bright, of one colour, blurred or of odd "
            "size; reads all files",
        )
        run_key_input(ctx, target, self.name, COLUMNS, VIEWS, inputs)
        checked_threshold(params["threshold"])
        each = 1 / PICTURES_PER_SECOND if params["check_pictures"] else SECONDS_PER_VECTOR
        judging_notice(target, embeddings, inputs, STARTING_SECONDS, each)

    def summary(self, result: dict[str, Any]) -> str:
        things, key = result["things"], result["run_key"]
        count = counted(result["flagged"], "outlier")
        lines = [
            f"**{count}** flagged among {result['judged']:,} {things}"
            + (f": saved view `{key}: flagged`, worst first" if result["flagged"] else "")
        ]
        lines += [f"- {count:,} {reason}" for reason, count in result["reasons"].items()]
        for reason in result["common"]:
            lines.append(
                f"- {reason}: so many {things} that it is how this set was made; not flagged"
            )
        if result["duplicates"] is None:
            lines.append(
                "- copies of a strange picture vouch for each other until `find_duplicates` was run"
            )
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)


def find_and_store(
    inputs: Inputs, *, threshold: str | float, check_pictures: bool, run_key: str | None
) -> dict[str, Any]:
    """Finds outliers among the inputs, stores them, and returns the operator's result."""
    from ..analysis import outliers
    from ..analysis.uninformative import find_uninformative
    from ..pictures.measures import measure_files

    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    wanted = checked_threshold(threshold)
    run = plan_findings(target, FindOutliers.name, run_key, COLUMNS, VIEWS)
    progress.say("Scoring")
    found = inputs.outliers if wanted is None else inputs.find_outliers(wanted)
    names = {outliers.OF_THE_SET: OF_THE_SET, outliers.OF_ITS_CLASS: OF_ITS_CLASS}
    reasons = [names.get(int(reason)) for reason in found.reason]
    skipped: Counter[str] = Counter()
    common: tuple[str, ...] = ()
    if check_pictures:
        _, files, boxes = zip(*inputs.items)
        with progress.share("Looking at the pixels", len(files), target.things) as report:
            measures = measure_files(files, boxes, report)
        seen = find_uninformative(measures)
        reasons = [reason or other for reason, other in zip(seen.reasons, reasons)]
        common = seen.common
        skipped = Counter(f"pixels not judged: {error}" for error in measures.errors.values())
    flagged = np.array([reason is not None for reason in reasons])
    facts = inputs.facts(run, {"threshold": threshold, "check_pictures": check_pictures})
    result = {
        **facts,
        "skipped": facts["skipped"] | dict(skipped),
        "flagged": int(flagged.sum()),
        "reasons": dict(Counter(reason for reason in reasons if reason).most_common()),
        "common": list(common),
        "threshold": round(found.threshold, 4),
        "duplicates": inputs.duplicates[0],
        "seconds": round(time.monotonic() - started, 2),
    }
    progress.say("Storing the scores")
    ids = inputs.ids
    columns = {
        "score": Column(
            fo.FloatField, {id_: round(float(s), 6) for id_, s in zip(ids, found.score)}
        ),
        "flagged": Column(fo.BooleanField, dict(zip(ids, flagged.tolist()))),
        "reason": Column(
            fo.StringField, {id_: reason for id_, reason in zip(ids, reasons) if reason}
        ),
    }

    def views() -> dict[str, Any]:
        condition = F(f"{run.key}_flagged") == True  # noqa: E712
        return {"flagged": matching_view(target, condition, [(f"{run.key}_score", -1)])}

    saved = store_findings(target, run, columns, inputs.sample_ids, views, result)
    return {**result, "views": list(saved)}
