"""``find_order_effects``: whether samples in a row are more alike than chance."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.order_effects import ORDER_EFFECTS, find_order_effects
from ..checks.progress import Progress, duration
from ..markup import code
from ..storage.orders import order_fields
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    choice_input,
    embeddings_input,
    evaluation_notice,
    patches_input,
    run_key_input,
)
from .words import skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 1e-4, 3


class FindOrderEffects(QualityOperator):
    name = ORDER_EFFECTS.name
    label = "Quality: find order effects"
    description = (
        "Test whether images that were imported, or recorded, one after the other are more alike "
        "than chance explains: then a split by the order is not a fair one"
    )
    icon = "low_priority"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        order_by: str | None = None,
        patches_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Tests whether nearest neighbors stand near to each other in an order.

        Duplicates of each other do not count, if ``find_duplicates`` was run before.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            order_by (None): a field of the samples with numbers, dates or texts, a time say; by
                default the order of import
            patches_field (None): the field of the patches whose embeddings are compared, in the
                order of their samples
            run_key (None): the name of the run, by default ``order_effects``
            seed (51): of the shufflings

        Returns:
            a dict with ``differ`` (true of 5 % of sets in which the order does not matter),
            ``p_value``, ``nearby`` (share of the nearest neighbors within a hundredth of the order,
            ``nearby_expected`` by chance), ``parts`` (the same for each tenth), …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            resolve_target(samples, patches_field), progress, embeddings=embeddings, seed=seed
        )
        return find_order_effects(inputs, order_by=order_by, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Compare")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        choice_input(
            inputs,
            "order_by",
            order_fields(target),
            label="Order",
            description="A field such as a time",
            none="As imported",
        )
        columns, views = ORDER_EFFECTS.columns, [*ORDER_EFFECTS.views]
        run_key_input(ctx, target, self.name, columns, views, inputs)
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def summary(self, result: dict[str, Any]) -> str:
        noun, field = result["things"], result["parameters"]["order_by"]
        order = "the order of import" if field is None else f"the order of {code(field)}"
        nearby = (
            f"{100 * result['nearby']:.1f} % of nearest neighbors are within a hundredth of it, "
            f"{100 * result['nearby_expected']:.1f} % by chance (p = {result['p_value']:.3f})"
        )
        if result["differ"]:
            lines = [
                f"**{order.capitalize()} matters**: {nearby}",
                "- split at random, or by what was recorded together, not by this order",
            ]
            if apart := [str(row["part"]) for row in result["parts"] if row["apart"]]:
                lines.append(
                    f"- tenths that keep to themselves: {', '.join(apart)}; color the "
                    f"visualization by {code(result['run_key'] + '_part')}"
                )
        else:
            lines = [f"**No effect of {order}** beyond chance among {result['judged']:,} {noun}"]
            lines.append(f"- {nearby}")
        if result["duplicates"] is None:
            lines.append("- consecutive duplicates count as well until `find_duplicates` has run")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)
