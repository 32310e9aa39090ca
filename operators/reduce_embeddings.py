"""``reduce_embeddings``: fewer dimensions, or embeddings without a metadata field."""

from typing import Any

import fiftyone.operators.types as types
import numpy as np

from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration
from ..checks.reducers import METHODS, Reduction
from ..checks.reduction import REDUCTION, default_field, plan_reduction, reduce_embeddings
from ..errors import UserError
from ..markup import code
from ..storage.metadata import split_fields
from ..storage.search_index import check_index_key
from ..storage.target import Target
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    NOT_CHOSEN,
    choice_input,
    embeddings_input,
    evaluation_notice,
    index_from_form,
    index_input,
    labels_input,
    patches_input,
)
from .words import skipped_lines

# The value of method that stands for none, which a form can send.
KEEP = "none"

# For the forecast in the form, on two cores.
STARTING_SECONDS, SECONDS_PER_EMBEDDING = 5, {"pca": 5e-4, "svd": 5e-4, "autoencoder": 3e-3}


class ReduceEmbeddings(QualityOperator):
    name = REDUCTION.name
    label = "Quality: reduce embeddings"
    description = (
        "Reduce embeddings to fewer dimensions with PCA, truncated SVD or an autoencoder, or "
        "remove what reveals a metadata field (camera, site, split), into a new field; reports "
        "how well neighbors and classes are preserved"
    )
    icon = "compress"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        method: str | None = "pca",
        num_dims: int | None = 64,
        remove: str | None = None,
        label_field: str | None = None,
        patches_field: str | None = None,
        field: str | None = None,
        update: bool = False,
        similarity_index: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Reduces embeddings into a new field, which all operators read like any other.

        Embeddings are scaled to length 1 first: they are compared by their directions.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            method ("pca"): ``pca``, ``svd`` (truncated, not centered) or ``autoencoder`` (begins
                as PCA; on a GPU if there is one); ``none`` leaves the dimensions as they are, with
                ``remove``
            num_dims (64): dimensions of the result; None is as ``method="none"``
            remove (None): a metadata field of strings, booleans, integers or Classifications: takes
                out the directions in which it can be read off (LEACE), before anything else
            label_field (None): a label field: also measures the held-out balanced accuracy of the
                classes, before and after; of patches, the patches field
            patches_field (None): the field of the patches whose embeddings are reduced
            field (None): the field of the result, and with it the name of the run; by default
                ``<embeddings>_<method>``, or ``<embeddings>_without_<remove>`` where the
                dimensions stay. An earlier result of that name is replaced
            update (False): place samples that have no reduced embedding yet by what was learned
                before; those that have one keep it
            similarity_index (None): a brain key; FiftyOne's similarity index of the result is
                created under it, for search by image
            seed (51): of everything random

        Returns:
            a dict with ``field``, ``dim``, ``explained`` (share of the variance), ``placed``,
            ``neighbor_preservation`` (share of the 15 nearest neighbors that stay so),
            ``accuracy`` (of the classes, ``before`` and ``after``), ``removed`` (how well the
            field is predicted ``before`` and ``after``, ``chance``), ``skipped``, …

        Raises:
            UserError: if the input is at fault; an earlier result then stays
        """
        reduction = _reduction(method, num_dims, remove)
        inputs = Inputs(
            resolve_target(samples, patches_field),
            progress,
            embeddings=embeddings,
            label_field=label_field,
            seed=seed,
        )
        return reduce_embeddings(
            inputs, reduction, field=field, update=update, similarity_index=similarity_index
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Reduce")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        params = self._parameters({**ctx.params, "embeddings": embeddings}, from_form=True)
        choice_input(
            inputs,
            "remove",
            split_fields(target),
            label="Remove information on",
            description="A field such as camera or site that the result must not reveal",
            none="Nothing",
        )
        options = METHODS | ({KEEP: "None: keep all dimensions"} if params["remove"] else {})
        choice_input(inputs, "method", options, label="Method")
        if params["method"] != KEEP:
            most = _most_dims(target, embeddings)
            inputs.int(
                "num_dims",
                default=min(64, most),
                min=1,
                max=most,
                label="Dimensions",
                description=f"At most {most:,}: limited by the number and dimension of the "
                "embeddings",
            )
            if (ctx.params.get("num_dims") or 0) > most:
                raise UserError(f"num_dims={params['num_dims']} must be at most {most:,} here")
        labels_input(
            target, inputs, "Measures how well these classes are preserved", required=False
        )
        reduction = _reduction(params["method"], params["num_dims"], params["remove"])
        default = default_field(embeddings, reduction)
        inputs.str(
            "field",
            label="Field for the result",
            view=types.View(placeholder=default),
        )
        field = params["field"] or default
        _, before = plan_reduction(target, embeddings, field)
        if before is not None:
            inputs.bool(
                "update",
                default=False,
                label="Add new samples only",
                description="Uses the stored reduction; existing values are kept",
            )
        key = index_input(ctx, inputs, field, checked=False)
        if key is not None:
            check_index_key(target, field, key)
        each = SECONDS_PER_EMBEDDING[reduction.method or "pca"]
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, each, "reduced")

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        def field() -> str:
            named, method = (str(given.get(name) or "").strip() for name in ("field", "method"))
            remove = given.get("remove")
            remove = None if remove == NOT_CHOSEN else remove or None
            embeddings = str(given.get("embeddings") or "")
            return named or default_field(embeddings, _reduction(method or "pca", 1, remove))

        return index_from_form(given, field)

    def summary(self, result: dict[str, Any]) -> str:
        noun = result["things"]
        lines = [
            f"**{result['placed']:,} {noun}** reduced into {code(result['field'])} "
            f"({result['dim']} dimensions), which every operator accepts as embeddings"
        ]
        if result["explained"] is not None:
            lines.append(f"- {_percent(result['explained'])} of the variance explained")
        if result["neighbor_preservation"] is not None:
            lines.append(
                f"- {_percent(result['neighbor_preservation'])} of the "
                f"{counted(result['neighbors'], 'nearest neighbor')} preserved"
            )
        if removed := result["removed"]:
            still = "; still partly predictable" if removed["still_told"] else ""
            lines.append(
                f"- {code(removed['field'])} is predicted with a balanced accuracy of "
                f"{_percent(removed['after'])}, was {_percent(removed['before'])}, chance is "
                f"{_percent(removed['chance'])}{still}"
            )
        if accuracy := result["accuracy"]:
            lines.append(
                f"- {code(accuracy['label_field'])}: held-out balanced accuracy "
                f"{_percent(accuracy['after'])}, was {_percent(accuracy['before'])}"
            )
        if result["similarity_index"]:
            lines.append(f"- search by image in the App: {code(result['similarity_index'])}")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _most_dims(target: Target, embeddings: str) -> int:
    """To how many dimensions embeddings can be reduced, by the first of them and their number."""
    ids = target.ids(having=embeddings)
    if not ids:
        return 1
    first = target.only(ids[:1]).values(embeddings)[ids[0]][0]
    return max(1, min(np.size(first), len(ids) - 1))


def _reduction(method: str | None, num_dims: int | None, remove: str | None) -> Reduction:
    return Reduction(None if method == KEEP else method, num_dims, remove)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
