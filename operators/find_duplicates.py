"""``find_duplicates``: exact copies, near-duplicates, and leaks between splits."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.compared import compared_texts
from ..checks.duplicates import DUPLICATES, TEXT_RUN_KEY, compared, find_duplicates
from ..checks.inputs import Inputs
from ..checks.parameters import checked_threshold
from ..checks.progress import Progress, counted, duration
from ..markup import code, markdown
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import QualityOperator
from .form_fields import (
    choice_input,
    labels_input,
    patches_input,
    run_key_input,
    split_input,
    texts_input,
)
from .words import counted_of, skipped_lines

# For the forecast in the form: images read per second by two cores, and the time to start.
IMAGES_PER_SECOND, TEXTS_PER_SECOND, STARTING_SECONDS = 250, 3000, 5

# What ``keep`` may be, as the form says it.
KEEP = {
    "auto": "Labeled first, then the largest",
    "largest": "The largest, in pixels",
    "oldest": "The oldest, by EXIF date",
    "newest": "The newest, by EXIF date",
}


class FindDuplicates(QualityOperator):
    name = DUPLICATES.name
    label = "Quality: find duplicates"
    description = (
        "Find exact copies and near-duplicates (mirrored, cropped, resized, recompressed, "
        "retouched) of images or object patches, verified on the pixels, or of captions and "
        "other texts, verified on the words; choose the representative of each group and count "
        "leaks between splits"
    )
    icon = "content_copy"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None = None,
        patches_field: str | None = None,
        label_field: str | None = None,
        split: str | list | None = None,
        threshold: str | float = "auto",
        keep: str = "auto",
        text_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> dict[str, Any]:
        """Finds duplicates and stores the groups.

        Candidates come from the neighbor graph of the embeddings; comparing the images verifies
        them. Nothing is removed: the saved view ``duplicates: redundant`` shows what could be.

        Embeddings of texts compare the texts: exact duplicates have the same normalized text
        (Unicode NFKC, without case, punctuation and spaces), near ones differ in a few words. Texts
        of which a number, date, negation, sign or name differs are none. No file is read.

        Args:
            samples: a dataset or view
            embeddings (None): the field of the embeddings, of images or of texts; without it, only
                exact copies are found
            patches_field (None): the field of the patches to compare, instead of whole images
            label_field (None): a label field: labeled samples are kept before unlabeled ones,
                and groups whose labels disagree are reported
            split (None): a field that names the split of each sample, ``"tags"``, or a list of
                tags: leaks between splits are reported, and the test member of a group is kept
            threshold ("auto"): how far the details of two images, or the words of two texts, must
                agree, from 0 to 1; higher finds fewer pairs. By default it is read off this set,
                and images are looked at closely: other words, digits or colors are other content.
                For images, a number of your own is all that decides
            keep ("auto"): which one represents a group: ``"largest"`` by its pixels, ``"oldest"``
                or ``"newest"`` by the EXIF date of its file; by default a labeled one, then the
                largest. With ``split``, the test member comes first in any case. The largest text
                is the longest
            text_field (None): the field of the texts to compare; embeddings that
                ``compute_embeddings`` made of texts know it
            run_key (None): the name of the run, by default ``duplicates``, of texts
                ``text_duplicates``
            seed (51): of the neighbor search, where that is approximate
            neighbors (None): the brain key of a FiftyOne similarity index (LanceDB, Qdrant, …) of
                the embeddings, whose search finds their neighbors

        Returns:
            a dict with ``exact_groups``, ``near_groups``, ``redundant``, ``exact_redundant`` (those
            that are exact copies), ``near_redundant`` (those of groups that hold more than
            copies), ``leaks``, ``conflicts``, ``changes``, ``compared`` (images, or the texts in a
            field), ``skipped``, …

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
        return find_duplicates(
            inputs,
            split=split,
            threshold=threshold,
            keep=keep,
            text_field=text_field,
            run_key=run_key,
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Compare")
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        choice_input(
            inputs,
            "embeddings",
            fields,
            label="Embeddings",
            description="The embeddings used to find candidates for near-duplicates",
            none="None: exact copies only",
            default=fields[0] if fields else None,
        )
        split_input(
            target,
            inputs,
            "The field or tags that name train, test, …: leaks between splits are listed first",
        )
        labels_input(target, inputs, "Reports groups whose labels disagree", required=False)
        inputs.str(
            "threshold",
            default="auto",
            label="Threshold",
            description="How closely details must agree, from 0 to 1; higher values find fewer "
            "pairs",
        )
        choice_input(
            inputs,
            "keep",
            KEEP,
            label="Keep",
            description="Which sample represents its group; samples of the test split always "
            "come first",
        )
        texts_input(
            target,
            inputs,
            "Compare the texts of a field instead of images; not needed for embeddings of texts",
            none="None, or the texts that were embedded",
        )
        params = self._parameters(ctx.params, from_form=True)
        checked_threshold(params["threshold"])
        chosen = params["embeddings"] if params["embeddings"] in fields else None
        read = Inputs(target, embeddings=chosen)
        field = compared_texts(read, params["text_field"], params["keep"])
        named = TEXT_RUN_KEY if field else None
        run_key_input(
            ctx, target, self.name, DUPLICATES.columns, [*DUPLICATES.views], inputs, named
        )
        count = len(target.ids())
        took = duration(
            STARTING_SECONDS + count / (TEXTS_PER_SECOND if field else IMAGES_PER_SECOND)
        )
        text = f"{counted_of(count, target.noun)} will be compared, which takes about {took}"
        if field:
            text += f": {compared(field)}; images are not read"
        inputs.view("plan", types.Notice(label=text))

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        groups = result["exact_groups"] + result["near_groups"]
        redundant = counted_of(result["redundant"], noun)
        of_texts = result["parameters"]["text_field"]
        verdict = "repeat the text of another one" if of_texts else "can be removed"
        lines = [
            f"**{counted(groups, 'group')} of duplicates** among {result['judged']:,} {noun}: "
            f"{result['exact_groups']:,} exact, {result['near_groups']:,} near; "
            f"**{redundant}** {verdict}, {result['exact_redundant']:,} of them exact copies"
        ]
        if of_texts:
            lines.append(
                f"- {markdown(result['compared'])} were compared word by word; images were not read"
            )
        for leak in result["leaks"]:
            first, second = map(markdown, leak["splits"])
            count = counted(leak["groups"], "group")
            verb = "has" if leak["groups"] == 1 else "have"
            lines.append(
                f"- **{count} {verb} members in both {first} and {second}** "
                f"(saved view {code(f'{key}: leaks')})"
            )
        if result["conflicts"]:
            lines.append(
                f"- labels disagree in {counted(result['conflicts'], 'group')} "
                f"(saved view {code(f'{key}: conflicts')})"
            )
        if result["changes"]:
            changes = ", ".join(f"{count:,} {kind}" for kind, count in result["changes"].items())
            lines.append(f"- how they differ from the representative: {changes}")
        if not result["embeddings"]:
            lines.append("- exact copies only: choose embeddings to find near-duplicates")
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        lines += skipped_lines(result)
        if groups:
            lines.append(
                f"- saved views {code(f'{key}: groups')} and {code(f'{key}: redundant')}; "
                "nothing was deleted"
            )
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)
