"""``remove_redundant``: tags redundant duplicates, or deletes them from the dataset."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.progress import Progress, counted
from ..checks.removal import DELETE, TAG, duplicate_runs, redundant_ids, remove_redundant
from ..errors import UserError
from ..markup import code
from .base import QualityOperator
from .form_fields import choice_input, show_error
from .words import counted_of

ACTIONS = {TAG: "Tag them", DELETE: "Delete them from the dataset"}


class RemoveRedundant(QualityOperator):
    name = "remove_redundant"
    label = "Quality: remove redundant duplicates"
    description = (
        "Tag redundant duplicates, or delete them from the dataset. Files are never touched, and "
        "the representative of each group is kept"
    )
    icon = "delete_sweep"
    risk_level = "dangerous"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        action: str = "tag",
        confirmed: bool = False,
        exact: bool = False,
        run_key: str = "duplicates",
    ) -> dict[str, Any]:
        """Tags redundant duplicates, or deletes them from the dataset.

        Deleting cannot be undone; files stay where they are. Tags can be removed again in the App.

        Args:
            samples: a dataset, or a view of it: what the run found among its samples is meant
            action ("tag"): ``"tag"`` them ``<run_key>_remove``, or ``"delete"`` them
            confirmed (False): only those that were tagged to be removed in a review
            exact (False): only exact copies
            run_key ("duplicates"): the run of ``find_duplicates``

        Returns:
            a dict with how many were ``tagged`` or ``removed``, the ``tag``, and how many are
            ``left`` in the dataset

        Raises:
            UserError: if the input is at fault; nothing is changed then
        """
        return remove_redundant(
            samples,
            action=action,
            confirmed=confirmed,
            exact=exact,
            run_key=run_key,
        )

    def samples(self, ctx: Any) -> Any:
        """The dataset: the form says what of it is meant."""
        return ctx.dataset

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        runs = [run.key for run in duplicate_runs(samples)]
        if not runs:
            raise UserError("There is no finished run; run 'Quality: find duplicates' first")
        choice_input(inputs, "run_key", runs, label="Run")
        choices = types.RadioGroup()
        for action, text in ACTIONS.items():
            choices.add_choice(action, label=text)
        inputs.enum("action", choices.values(), default=TAG, view=choices, label="What to do")
        for name, text in (
            ("exact", "Only exact copies"),
            ("confirmed", "Only duplicates tagged for removal in a review"),
        ):
            inputs.bool(name, default=False, label=text)
        key = ctx.params.get("run_key")
        only = {name: bool(ctx.params.get(name)) for name in ("confirmed", "exact")}
        run, ids = redundant_ids(samples, key if key in runs else runs[0], **only)
        deletes = ctx.params.get("action") == DELETE
        verb = "deleted from the dataset" if deletes else "tagged"
        text = f"{counted_of(len(ids), run.facts.about.noun)} will be {verb}; "
        text += "the representative of each group is kept, and no file is touched"
        if run.facts.special.get("conflicts"):
            text += (
                f". Labels disagree in {counted(run.facts.special['conflicts'], 'group')}: correct "
                f"them first (saved view {run.key}: conflicts)"
            )
        if run.facts.parameters.get("text_field"):
            text += ". Their texts are duplicates; their images were not compared"
        if not ids:
            text = "There are no redundant duplicates"
        if not (deletes and ids):
            inputs.view("plan", types.Notice(label=text))
            return
        inputs.view("plan", types.Warning(label=f"{text}. This cannot be undone"))
        inputs.bool(
            "sure", default=False, label=f"Delete {counted_of(len(ids), run.facts.about.noun)}"
        )
        if not ctx.params.get("sure"):
            show_error(inputs, "Tick the box to confirm")

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        sure = given.pop("sure", False)
        if given.get("action") == DELETE and not sure:
            raise UserError("Tick the box to confirm the deletion")
        return given

    def summary(self, result: dict[str, Any]) -> str:
        noun = result["things"]
        if result["action"] == DELETE:
            return (
                f"**{counted_of(result['removed'], noun)} deleted** from the dataset; "
                f"{result['left']:,} remain. No file was touched"
            )
        return f"**{counted_of(result['tagged'], noun)} tagged** {code(result['tag'])}"
