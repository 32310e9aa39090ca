"""``select_samples``: what to label, or to keep, first."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration, percent
from ..checks.selection import (
    SELECTION,
    STRATEGIES,
    checked_number,
    checked_strategy,
    select_samples,
)
from ..errors import UserError
from ..markup import code, markdown
from ..storage.labels import label_fields
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    NOT_CHOSEN,
    choice_input,
    embeddings_input,
    evaluation_notice,
    labels_input,
    patches_input,
    run_key_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 1e-4, 4

# What the strategies are called in the form.
WORDS = {
    "auto": "Auto: uncertain once classes have some labels, otherwise representative",
    "representative": "Representative: typical of what is not yet covered",
    "diverse": "Diverse: also covers rare samples",
    "uncertain": "Uncertain: where a classifier trained on the labels is unsure",
    "around": "Around: similar to given samples",
}

# How many are chosen where the form is left as it is.
DEFAULT_NUMBER = 100


class SelectSamples(QualityOperator):
    name = SELECTION.name
    label = "Quality: select samples"
    description = (
        "Choose which samples or patches to label, review or keep first, ranked so that any "
        "number of first ranks is a good selection: representative, diverse, uncertain, or "
        "similar to given ones; balanced over a field, one per duplicate group"
    )
    icon = "checklist"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        num_samples: int | float,
        strategy: str = "auto",
        around: str | list | None = None,
        start_from: str | list | None = None,
        label_field: str | None = None,
        by: str | None = None,
        patches_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Chooses samples in an order of which every first part is a good choice.

        Of each duplicate group one is chosen at most, if ``find_duplicates`` was run before.
        Nothing is labeled, tagged or deleted.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            num_samples: how many to choose, or below 1 which share of them
            strategy ("auto"): ``"representative"``: typical of what is not covered yet;
                ``"diverse"``: covers what is rare as well; ``"uncertain"``: where the classifier
                that is learned from the labels doubts; ``"around"``: like those of ``around``. By
                default ``"around"`` if that is given, ``"uncertain"`` where classes have at least
                two labels in the mean, else ``"representative"``
            around (None): a saved view, a tag or a list of ids: choose what is like these
            start_from (None): what is labeled or chosen already, so that it is not chosen again
                and what is like it waits: a label field, a saved view, a tag or a list of ids
            label_field (None): the labels from which doubt is learned, by default ``start_from``
                if that is a label field
            by (None): a field over whose values the choice is balanced
            patches_field (None): the field of the patches to choose from
            run_key (None): the name of the run, by default ``selection``
            seed (51): of the neighbor search, where that is approximate, and of the classifier
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``selected``, ``strategy``, ``coverage`` (of first parts of the choice:
            which share of all is within ``radius`` of it), ``uncovered``, …

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
        return select_samples(
            inputs,
            num_samples=num_samples,
            strategy=strategy,
            around=around,
            start_from=start_from,
            by=by,
            run_key=run_key,
        )

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given.get("num_samples")
        if number is None:
            given["num_samples"] = DEFAULT_NUMBER
        elif isinstance(number, float) and number.is_integer():
            given["num_samples"] = int(number)
        return given

    def shown(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["strategy"] != "around":
            parameters["around"] = None
        if parameters["strategy"] not in ("auto", "uncertain"):
            parameters["label_field"] = None
        return parameters

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Choose from")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        inputs.float(
            "num_samples",
            default=DEFAULT_NUMBER,
            label="How many",
            description="A number, or a share below 1: 0.2 is every fifth sample",
        )
        choice_input(inputs, "strategy", WORDS, label="Strategy")
        strategy = ctx.params.get("strategy") or STRATEGIES[0]
        views = target.dataset.list_saved_views()
        tags = sorted(target.view.distinct("tags"))
        if strategy == "around":
            _named_input(inputs, "around", [*views, *tags], "Similar to", required=True)
        fields = label_fields(target)
        _named_input(inputs, "start_from", [*fields, *views, *tags], "Already selected")
        if strategy in ("auto", "uncertain"):
            labels_input(target, inputs, "The labels to learn uncertainty from", required=False)
        choice_input(
            inputs,
            "by",
            fields if patches_field is None else [patches_field],
            label="Balanced over",
            description="The same number for each of its values",
            none="Nothing",
        )
        run_key_input(ctx, target, self.name, SELECTION.columns, [*SELECTION.views], inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        checked_strategy(params["strategy"], params["around"])
        checked_number(params["num_samples"])
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        lines = [
            f"**{counted_of(result['selected'], noun)}** of {result['judged']:,} chosen "
            f"({result['strategy']}): saved view {code(f'{key}: selected')}, most important first"
        ]
        if result["selected"] < result["wanted"]:
            lines.append(f"- {result['wanted']:,} were requested; there are no more to choose from")
        coverage = result["coverage"][-1]
        lines.append(
            f"- {percent(coverage['covered'])} of all {noun} are near a selected one; "
            f"{result['uncovered']:,} are farther than {result['radius']:.2f}: saved view "
            f"{code(f'{key}: uncovered')}"
        )
        parts = [
            f"{point['selected']:,}: {percent(point['covered'])}" for point in result["coverage"]
        ]
        if len(parts) > 1:
            lines.append(f"- covered by the first {', '.join(parts[-5:])}")
        if by := result["by"]:
            lines.append(
                f"- {by['least']:,} to {by['most']:,} of each of "
                f"{counted(by['values'], 'value')} of {markdown(by['field'])}"
            )
        if result["duplicates"] is None:
            lines.append("- both of two duplicates may be selected; run `find_duplicates` first")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _named_input(
    inputs: types.Object, name: str, options: list[str], label: str, required: bool = False
) -> None:
    """A choice between fields, saved views and tags; none if there are none."""
    if not options and required:
        raise UserError("Save a view of these samples, or tag them, first")
    none = None if required else "Nothing"
    choice_input(
        inputs,
        name,
        list(dict.fromkeys(option for option in options if option != NOT_CHOSEN)),
        label=label,
        description="A saved view or a tag" + ("" if required else ", or labeled samples"),
        none=none,
    )
