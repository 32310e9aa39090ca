"""``find_clusters``: clusters and topics with names, and a description of each."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.clusters import CLUSTERS, columns_of, find_clusters
from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration, percent
from ..markup import code, markdown
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import (
    NOT_CHOSEN,
    embeddings_input,
    evaluation_notice,
    labels_input,
    patches_input,
    run_key_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores.
IMAGES_PER_SECOND, SECONDS_PER_EMBEDDING, STARTING_SECONDS = 300, 2e-4, 5

# Clusters and classes that the summary names.
NAMED = 8


class FindClusters(QualityOperator):
    name = CLUSTERS.name
    label = "Quality: find clusters"
    description = (
        "Group similar samples at two levels, clusters and topics, without choosing their "
        "number; name them, and report which clusters perform worse than the rest and which "
        "classes are split"
    )
    icon = "workspaces"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        patches_field: str | None = None,
        label_field: str | None = None,
        names: str | list = "auto",
        min_size: int = 5,
        check_pictures: bool = True,
        by: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Finds clusters and topics, and names them.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings
            patches_field (None): the field of the patches whose embeddings are clustered
            label_field (None): a label field: the labels of each cluster, how well held-out
                predictions do in it, and classes that fall into several clusters; of patches, the
                patches field
            names ("auto"): ``"auto"``: words of the model that computed the embeddings, where they
                fit, else labels; ``"labels"``; or, for CLIP embeddings, a list of words to choose
                from
            min_size (5): distinct images that make a cluster; duplicates count once
            check_pictures (True): with labels, also find properties of images (brightness, color,
                sharpness, size, aspect ratio) associated with errors or with a label; it reads all
                files; not for embeddings of texts
            by (None): a field, such as source or camera, whose values are tested as well
            run_key (None): the name of the run, by default ``clusters``
            seed (51): of everything random
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``num_clusters``, ``num_topics``, ``clusters`` (the largest first),
            ``subclasses``, ``unclustered``, ``slices`` (samples with one property among which
            held-out predictions and labels disagree, the surest first), ``correlated`` (labels that
            a property predicts all by itself), …

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
        return find_clusters(
            inputs,
            names=names,
            min_size=min_size,
            check_pictures=check_pictures,
            by=by,
            run_key=run_key,
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Cluster")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        fields = labels_input(
            target, inputs, "Report how the clusters relate to these classes", required=False
        )
        inputs.str(
            "names",
            default="auto",
            label="Names",
            description="auto: words of the embedding model, otherwise labels; labels; or, for "
            "CLIP embeddings, a comma-separated list of words to choose from",
        )
        inputs.int(
            "min_size",
            default=5,
            label="Smallest cluster",
            description="Minimum number of distinct images in a cluster",
        )
        inputs.bool(
            "check_pictures",
            default=True,
            label="Look at the pixels",
            description="With labels, lists properties such as dark or small that are "
            "associated with errors or a label; reads all files",
        )
        inputs.str(
            "by",
            label="By",
            description="A field such as source or camera, whose values are tested as well",
        )
        run_key_input(ctx, target, self.name, columns_of(target), [*CLUSTERS.views], inputs)
        reads = bool(fields) and ctx.params.get("label_field") != NOT_CHOSEN
        reads = reads and ctx.params.get("check_pictures", True)
        each = 1 / IMAGES_PER_SECOND if reads else SECONDS_PER_EMBEDDING
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, each)

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        names = given.get("names")
        if isinstance(names, str) and "," in names:
            given["names"] = [word.strip() for word in names.split(",") if word.strip()]
        return given

    def summary(self, result: dict[str, Any]) -> str:
        noun = result["things"]
        lines = [
            f"**{counted(result['num_clusters'], 'cluster')}** in "
            f"{counted(result['num_topics'], 'topic')} among {result['judged']:,} {noun}, named by "
            f"{result['named_by']}; color the visualization by {code(result['run_key'] + '_topic')}"
        ]
        for row in result["clusters"][:NAMED]:
            labels = ", ".join(
                f"{markdown(one['label'])} {percent(one['share'])}" for one in row.get("labels", ())
            )
            lines.append(
                f"- {markdown(row['cluster'])}: {row['count']:,}" + f" ({labels})" * bool(labels)
            )
        if (more := result["num_clusters"] - NAMED) > 0:
            lines.append(f"- and {more:,} more")
        for row in result["clusters"]:
            if row.get("worse"):
                lines.append(
                    f"- **{markdown(row['cluster'])} performs worse than the rest**: held-out "
                    f"accuracy {percent(row['accuracy'])} of it"
                )
        for row in result["slices"][:NAMED]:
            lines.append(
                f"- **{markdown(row['slice'])}**: labels and held-out predictions disagree on "
                f"{percent(row['share'])} of {row['count']:,}, {percent(row['rest'])} of the rest"
            )
        for row in result["correlated"][:NAMED]:
            lines.append(
                f"- class {markdown(row['label'])} can be predicted by its "
                f"{markdown(row['property'])} alone: {markdown(row['level'])} "
                f"(AUC {row['auc']:.2f}); a classifier may learn that instead"
            )
        for split in result["subclasses"][:NAMED]:
            parts = ", ".join(markdown(part["cluster"]) for part in split["clusters"])
            lines.append(
                f"- class {markdown(split['label'])} is split across several clusters: {parts}"
            )
        if result["unclustered"]:
            lines.append(f"- {counted_of(result['unclustered'], noun)} assigned to no cluster")
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
