"""``describe_embeddings``: declares what made embeddings that the plugin has not computed."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.description import (
    DESCRIPTION,
    KINDS,
    METRICS,
    Description,
    describe_embeddings,
    plan_description,
)
from ..checks.progress import Progress, duration
from ..errors import UserError
from ..markup import code, markdown
from ..storage.search_index import check_index_key
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import QualityOperator
from .form_fields import choice_input, index_from_form, index_input, patches_input
from .words import skipped_lines

METRIC_LABELS = {"cosine": "Cosine", "dot": "Dot product", "euclidean": "Euclidean"}


class DescribeEmbeddings(QualityOperator):
    name = DESCRIPTION.name
    label = "Quality: describe embeddings"
    description = (
        "Record which model produced embeddings that were computed elsewhere (a service, "
        "ImageBind, DeepWalk, …), so that embeddings of different models are never compared or "
        "mixed; nothing is computed and the embeddings are not changed"
    )
    icon = "label"
    risk_level = "low"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        model: str,
        of: str = "images",
        metric: str = "cosine",
        text_side: str | None = None,
        patches_field: str | None = None,
        similarity_index: str | None = None,
    ) -> dict[str, Any]:
        """Stores what made the embeddings of a field, as the run of that field.

        ``compare_datasets`` then refuses embeddings of another model, ``compute_embeddings`` does
        not write into the field, and every result names the model. Nothing is computed, the
        embeddings are only read. ``delete_run`` forgets the description; the embeddings stay.

        Args:
            samples: a dataset or view; a description is of all embeddings in the field
            embeddings: the field with the embeddings
            model: what made them, with its version: ``text-embedding-3-small``, ``imagebind_huge``,
                ``deepwalk of follows, 2026-05``. Fields of the same model are of one space
            of ("images"): of what: ``images``, ``patches``, ``texts``, ``audio``, ``graph``,
                ``metadata``, or another word
            metric ("cosine"): how the model's embeddings are meant to be compared: ``cosine``,
                ``dot`` or ``euclidean``. The checks compare all embeddings by cosine, a similarity
                index does it in this way
            text_side (None): what embeds texts into the same space. For ``clip`` or
                ``open_clip:<architecture>/<pretrained>`` the similarity index searches by text,
                too; anything else is a note
            patches_field (None): a Detections or Polylines field, whose objects have the embeddings
            similarity_index (None): a brain key; FiftyOne's similarity index of the embeddings is
                created under it

        Returns:
            a dict with ``run_key``, ``embeddings``, ``model``, ``dim``, how many were ``read``,
            ``judged`` and ``skipped`` (by reason), ``similarity_index``, ``text_search`` and
            ``seconds``

        Raises:
            UserError: if there is no such field, it holds embeddings of several lengths, or the
                plugin has filled it itself
        """
        return describe_embeddings(
            resolve_target(samples, patches_field),
            Description(model, of, metric, text_side),
            progress,
            embeddings=embeddings,
            similarity_index=similarity_index,
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Embeddings of")
        target = resolve_target(samples, patches_field)
        fields = _describable(target)
        if not fields:
            raise UserError(
                f"The {target.noun} have no embeddings that were computed elsewhere; store some "
                "in a field first, or run 'Quality: compute embeddings'"
            )
        choice_input(inputs, "embeddings", fields, label="Embeddings")
        chosen = ctx.params.get("embeddings")
        embeddings = chosen if chosen in fields else fields[0]
        inputs.str(
            "model",
            required=True,
            label="Model",
            description="The model with its version: text-embedding-3-small, imagebind_huge, "
            "deepwalk of follows. Embeddings of different models are never compared",
        )
        kinds = types.AutocompleteView()
        for kind in KINDS:
            kinds.add_choice(kind, label=kind)
        default = "images" if patches_field is None else "patches"
        inputs.str("of", default=default, view=kinds, label="Embedded content")
        choice_input(
            inputs,
            "metric",
            {name: METRIC_LABELS[name] for name in METRICS},
            label="Metric",
            description="The metric the model is meant for; the similarity index uses it, the "
            "checks use cosine",
        )
        inputs.str(
            "text_side",
            label="Text model",
            description="The model that embeds texts into the same space, if there is one; clip "
            "and open_clip:<architecture>/<pretrained> enable search by text",
        )
        key = index_input(ctx, inputs, embeddings, checked=False)
        if key is not None:
            check_index_key(target, embeddings, key)
        given = {**ctx.params, "embeddings": embeddings, "model": ctx.params.get("model") or "…"}
        params = self._parameters(given, from_form=True)
        Description(params["model"], params["of"], params["metric"], params["text_side"])
        _, before = plan_description(target, embeddings)
        text = f"{len(target.everything.ids(having=embeddings)):,} embeddings in {embeddings} "
        text += f"will be read and not changed; the description is stored as the run {embeddings!r}"
        if before is not None:
            text += f", which currently names {before.facts.model!r}"
        inputs.view("plan", types.Notice(label=text))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        return index_from_form(given, lambda: str(given.get("embeddings") or ""))

    def summary(self, result: dict[str, Any]) -> str:
        content = result["parameters"]["of"]
        lines = [
            f"**{result['judged']:,} embeddings** of {markdown(content)} in "
            f"**{code(result['embeddings'])}** ({result['dim']:,} dimensions), computed "
            f"elsewhere with **{markdown(result['model'])}**"
        ]
        if text_side := result["parameters"]["text_side"]:
            lines.append(f"- texts are embedded into the same space with {markdown(text_side)}")
        if result["parameters"]["metric"] == "euclidean":
            lines.append(
                "- the checks use cosine similarity and ignore the lengths of the embeddings"
            )
        if result["similarity_index"]:
            by = "image and text" if result["text_search"] else "image"
            lines.append(f"- search by {by} in the App: {code(result['similarity_index'])}")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _describable(target: Target) -> list[str]:
    """The fields of embeddings that the plugin has not filled itself."""
    found = []
    for name in vector_fields(target):
        try:
            plan_description(target, name)
        except UserError:
            continue
        found.append(name)
    return found
