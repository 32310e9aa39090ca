"""``audit``: everything in one pass that shares embeddings, their graph and held-out labels."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.audit import (
    NO_LABELS,
    AuditSteps,
    audit,
    default_labels,
    default_patches,
    field_to_audit,
)
from ..checks.clusters import CLUSTERS
from ..checks.embeddings import EMBEDDINGS, default_field
from ..checks.overview import findings_of
from ..checks.progress import Progress, counted, duration, percent
from ..checks.search import SEARCH, known_tower
from ..checks.separability import SEPARABILITY
from ..checks.visualization import VISUALIZATION
from ..embedding.names import full_name
from ..embedding.registry import open_clip_config
from ..markup import code, markdown
from ..storage.search_index import check_index_key
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import OPEN_PANEL, SET_VIEW, QualityOperator, show_labels
from .compute_separability import PANEL
from .form_fields import (
    NOT_CHOSEN,
    embedding_seconds,
    embeddings_input,
    index_from_form,
    index_input,
    labels_input,
    model_input,
    patches_input,
    split_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores: seconds of an embedding, of an image.
SECONDS_PER_EMBEDDING, SECONDS_PER_IMAGE, STARTING_SECONDS = 1e-3, 8e-3, 15


class Audit(QualityOperator):
    name = "audit"
    label = "Quality: audit"
    description = (
        "Run every check that fits: embeddings if missing, duplicates and leaks, outliers, label "
        "issues, class separability and a visualization, with one summary of what to look at first"
    )
    icon = "fact_check"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None = None,
        model: str = "clip",
        label_field: str | None = None,
        patches_field: str | None = None,
        split: str | list | None = None,
        check_pictures: bool = True,
        similarity_index: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Runs every check that the dataset allows, and says what was skipped and why.

        Args:
            samples: a dataset or view
            embeddings (None): the field of the embeddings; by default the first such field,
                or else the model's name. What has no embedding there is computed, if the plugin's
                ``compute_embeddings`` filled the field or nothing has
            model ("clip"): the model that computes embeddings, where there are none yet
            label_field (None): the field of the labels; by default ``ground_truth``, or the only
                one that holds Classifications, but none whose values are names of splits;
                ``"none"`` for an audit of whole images without labels. Of patches, their field
            patches_field (None): audit the patches of this field instead of whole images; by
                default those of a Detections or Polylines field, if no field holds Classifications
                and not only the images have embeddings
            split (None): a field that names the split of each sample, ``"tags"``, or a list of
                tags, for leaks between them; by default tags or a field whose values are train,
                val, test, …
            check_pictures (True): read the files, to verify duplicates and to find dark, bright,
                blurry, … images; without it, near-duplicates are skipped
            similarity_index (None): a brain key; FiftyOne's similarity index of the embeddings is
                created under it, which searches by text, too, where the model reads it
            seed (51): of everything random
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``findings`` (what to look at first), ``steps`` (the result of each
            operator by its name), ``left_out`` (reasons by operator), how many were ``read``,
            ``judged`` and ``skipped`` (by reason; the most of any check), and ``seconds``

        Raises:
            UserError: if the input is at fault
        """
        patches_field = patches_field or default_patches(samples, embeddings, label_field)
        result = audit(
            resolve_target(samples, patches_field),
            progress,
            embeddings=embeddings,
            model=model,
            label_field=label_field,
            split=split,
            check_pictures=check_pictures,
            similarity_index=similarity_index,
            seed=seed,
            neighbors=neighbors,
        )
        return {**result, "findings": [one.as_dict() for one in findings_of(result["steps"])]}

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Audit", default_patches(samples))
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        model = (ctx.params.get("model") or "").strip() or "clip"
        field = field_to_audit(target, None, model)
        if fields:
            field = embeddings_input(ctx, target, inputs)
        else:
            model_input(
                inputs,
                "There are no embeddings yet; this model computes them (for example clip or cnn)",
            )
        default = patches_field or default_labels(target)
        labels_input(target, inputs, "The classes", required=False, default=default or NOT_CHOSEN)
        split_input(
            target,
            inputs,
            "The field or tags that name train, test, …: leaks between splits are listed first",
            ctx.params.get("label_field") or default,
        )
        inputs.bool(
            "check_pictures",
            default=True,
            label="Read the images",
            description="Verifies duplicates and finds dark, bright, blurry, … images",
        )
        tower = known_tower(target, field)[0] if fields else open_clip_config(model, None)
        key = index_input(ctx, inputs, field, checked=False, text=tower is not None)
        if key is not None:
            check_index_key(target, field, key)
        count = len(target.ids())
        seconds = STARTING_SECONDS + count * SECONDS_PER_EMBEDDING
        if ctx.params.get("check_pictures", True):
            seconds += count * SECONDS_PER_IMAGE
        verb = "audited" if fields else "embedded and audited"
        if not fields:
            seconds += embedding_seconds(full_name(model), count)
        text = f"{counted_of(count, target.noun)} will be {verb}, which takes about "
        text += f"{duration(seconds)}. No label or file is changed"
        inputs.view("plan", types.Notice(label=text))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        whole = given.get("patches_field") == NOT_CHOSEN and not given.get("label_field")
        # What was chosen as none in the form is not chosen again by default.
        if whole or given.get("label_field") == NOT_CHOSEN:
            given["label_field"] = NO_LABELS

        def field() -> str:
            return str(given.get("embeddings") or default_field(str(given.get("model") or "clip")))

        return index_from_form(given, field)

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        views = dict.fromkeys(finding["view"] for finding in result["findings"])
        links = [(f"Show {view}", SET_VIEW, {"name": view}) for view in views if view]
        home = {"name": "dataset_quality", "layout": "horizontal"}
        panels = [("Open dataset quality", OPEN_PANEL, home)]
        if SEPARABILITY.name in result["steps"]:
            panel = {"name": PANEL, "layout": "horizontal"}
            panels.append(("Open class separability", OPEN_PANEL, panel))
        if VISUALIZATION.name in result["steps"]:
            panel = {"name": "Embeddings"}
            panels.append(("Open the visualization", OPEN_PANEL, panel))
        return links + panels

    def afterwards(self, ctx: Any) -> list[Any]:
        return show_labels(ctx)

    def summary(self, result: dict[str, Any]) -> str:
        lines = [
            f"**Audit of {counted_of(result['read'], result['things'])}**"
            + (f" with {code(result['embeddings'])}" if result["embeddings"] else "")
        ]
        if why := result["left_out"].get(EMBEDDINGS.name):
            skipped = counted(len(result["left_out"]) - 1, "check")
            lines += [
                "",
                f"**Incomplete: {skipped} skipped, without embeddings.** {markdown(why)}",
            ]
        if result["findings"]:
            lines += ["", "Look at first:"]
        for place, finding in enumerate(result["findings"], 1):
            where = f" → {code(finding['view'])}" if finding["view"] else ""
            what, how_sure = markdown(finding["what"]), markdown(finding["how_sure"])
            lines.append(f"{place}. **{what}**: {how_sure}{where}")
        if not result["findings"]:
            lines += ["", "No issues found"]
        return "\n".join([*lines, "", *self._facts(result)])

    def _facts(self, result: dict[str, Any]) -> list[str]:
        """What there is to know beside the findings."""
        facts = []
        if separability := result["steps"].get(SEPARABILITY.name):
            overall = separability["overall"]
            facts.append(
                f"- {counted(overall['classes'], 'class')}, balanced accuracy of the held-out "
                f"predictions {percent(overall['balanced_accuracy'] or 0)}: panel **Class "
                "separability**"
            )
        if visualization := result["steps"].get(VISUALIZATION.name):
            facts.append(
                f"- visualization {code(visualization['brain_key'])} in the **Embeddings** panel: "
                f"{visualization['trust']}"
            )
        if clusters := result["steps"].get(CLUSTERS.name):
            facts.append(
                f"- {counted(clusters['num_clusters'], 'cluster')} in "
                f"{counted(clusters['num_topics'], 'topic')}: color the visualization by "
                f"{code(clusters['run_key'] + '_topic')}"
            )
        if search := result["steps"].get(SEARCH):
            by = "image and text" if search["text_search"] else "image"
            facts.append(f"- search by {by} in the App: {code(search['similarity_index'])}")
        facts += skipped_lines(result)
        if result["steps"].get(EMBEDDINGS.name, {}).get("failed"):
            field = code(f"{result['embeddings']}_error")
            facts.append(f"- reasons for missing embeddings: field {field}")
        left_out = {
            name: why for name, why in result["left_out"].items() if name != EMBEDDINGS.name
        }
        for checks, why in AuditSteps(left_out=left_out).reasons():
            facts.append(f"- skipped: {', '.join(map(code, checks))}: {markdown(why)}")
        return [*facts, f"- {duration(result['seconds'])} in total"]
