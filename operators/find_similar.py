"""``find_similar``: what is most like one image file."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.inputs import Inputs
from ..checks.progress import Progress, duration
from ..checks.similar import SIMILAR, checked_file, find_similar
from ..markup import code
from ..storage.targets import resolve_target
from .base import QualityOperator
from .form_fields import embeddings_input, evaluation_notice, patches_input, run_key_input
from .words import counted_of, skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 2e-5, 5


class FindSimilar(QualityOperator):
    name = SIMILAR.name
    label = "Quality: find similar"
    description = (
        "Find the samples or patches most similar to one image file, which need not be in the "
        "dataset, and whether it is there already"
    )
    icon = "image_search"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        similar_to: str,
        num_samples: int = 20,
        patches_field: str | None = None,
        check_pictures: bool = True,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Finds what is most like an image file, which is embedded by the model of the embeddings.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings, filled by ``compute_embeddings``
            similar_to: the path of an image file; it is read, and not added to the dataset
            num_samples (20): how many are found
            patches_field (None): the field of the patches whose embeddings are searched
            check_pictures (True): whether the pixels of the 20 nearest are compared with those of
                the file, which recognizes duplicates
            run_key (None): the name of the run, by default ``similar``
            seed (51): without effect here

        Returns:
            a dict with ``found``, ``most_similar`` and ``least_similar`` (cosine similarity),
            ``duplicates`` and ``duplicate_ids``

        Raises:
            UserError: if the input is at fault, the file cannot be read, or the model is not known;
                an earlier run of the name then stays
        """
        inputs = Inputs(
            resolve_target(samples, patches_field), progress, embeddings=embeddings, seed=seed
        )
        return find_similar(
            inputs,
            similar_to=similar_to,
            num_samples=num_samples,
            check_pictures=check_pictures,
            run_key=run_key,
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Search")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        inputs.str(
            "similar_to",
            required=True,
            label="Image file",
            description="Its path, where FiftyOne's server can read it",
        )
        inputs.int("num_samples", default=20, label="Number", description="How many are found")
        inputs.bool(
            "check_pictures",
            default=True,
            label="Look for duplicates",
            description="Compares the pixels of the nearest with those of the file",
        )
        run_key_input(ctx, target, self.name, SIMILAR.columns, [*SIMILAR.views], inputs)
        if ctx.params.get("similar_to"):
            checked_file(ctx.params["similar_to"])
        evaluation_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def summary(self, result: dict[str, Any]) -> str:
        noun = result["things"]
        lines = [
            f"**{counted_of(result['found'], noun)}** most similar to "
            f"{code(result['parameters']['similar_to'])}: saved view "
            f"{code(result['run_key'] + ': nearest')}; cosine similarity "
            f"{result['most_similar']:.2f} to {result['least_similar']:.2f}"
        ]
        if result["duplicates"]:
            lines.append(f"- **it is there already**: {counted_of(result['duplicates'], noun)}")
        elif result["duplicates"] == 0:
            lines.append(f"- none of these {noun} shows the same")
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)
