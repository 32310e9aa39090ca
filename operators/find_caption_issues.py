"""``find_caption_issues``: captions that do not match their images."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.caption_issues import CAPTION_ISSUES, check_sides, find_caption_issues
from ..checks.inputs import Inputs
from ..checks.progress import Progress, counted, duration
from ..errors import UserError
from ..markup import code, markdown
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.texts import text_field_of
from ..storage.vectors import embeddings_field, vector_fields
from .base import QualityOperator
from .form_fields import choice_input, evaluation_notice, patches_input, run_key_input
from .words import skipped_lines

# For the forecast in the form, on two cores.
SECONDS_PER_EMBEDDING, STARTING_SECONDS = 3e-4, 4


class FindCaptionIssues(QualityOperator):
    name = CAPTION_ISSUES.name
    label = "Quality: find caption issues"
    description = (
        "Rank captions by how well they match their images, using the captions of similar images "
        "and the images of similar captions, and flag captions that more likely belong to "
        "another image"
    )
    icon = "subtitles"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        text_embeddings: str,
        patches_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Ranks captions, and flags those that more likely belong to another image.

        Any model of images and any model of texts can be combined. Where one model has embedded
        both, as CLIP does, the similarity of image and caption counts as well. Flags are calibrated
        for captions that belong to other images, not for those that are wrong in a detail.

        Args:
            samples: a dataset or view
            embeddings: the field of the embeddings of images
            text_embeddings: the field of the embeddings of their captions, as
                ``compute_embeddings(text_field=…)`` makes them
            patches_field (None): the field of the patches whose captions are evaluated
            run_key (None): the name of the run, by default ``caption_issues``
            seed (51): of the neighbor search, where that is approximate

        Returns:
            a dict with ``flagged``, ``share`` (of captions that look like those of another image,
            those that the embeddings mistake among them; not calibrated), ``threshold``, ``joint``
            (whether one model has embedded both), ``skipped``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        target = resolve_target(samples, patches_field)
        images = Inputs(target, progress, embeddings=embeddings, seed=seed)
        texts = embeddings_field(target, text_embeddings, called="text_embeddings")
        captions = Inputs(target, progress, embeddings=texts, seed=seed)
        return find_caption_issues(images, captions, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Evaluate")
        target = resolve_target(samples, patches_field)
        images, texts = _sides(target)
        for name, fields, label, what in (
            ("embeddings", images, "Images", "The field with the embeddings of images"),
            ("text_embeddings", texts, "Captions", "The field with the embeddings of captions"),
        ):
            choice_input(inputs, name, fields, label=label, description=what)
        chosen = [
            ctx.params.get(name) if ctx.params.get(name) in fields else fields[0]
            for name, fields in (("embeddings", images), ("text_embeddings", texts))
        ]
        check_sides(*(Inputs(target, embeddings=name) for name in chosen))
        views = [*CAPTION_ISSUES.views]
        run_key_input(ctx, target, self.name, CAPTION_ISSUES.columns, views, inputs)
        evaluation_notice(target, chosen[1], inputs, STARTING_SECONDS, SECONDS_PER_EMBEDDING)

    def summary(self, result: dict[str, Any]) -> str:
        noun, key = result["things"], result["run_key"]
        where = f": saved view {code(f'{key}: flagged')}, worst first" if result["flagged"] else ""
        lines = [
            f"**{counted(result['flagged'], 'caption')}** flagged among {result['judged']:,} "
            f"{noun}{where}"
        ]
        if result["flagged"]:
            lines.append("- the share of correct flags is not estimated")
        lines.append(
            "- images and captions come from one model, so their similarity is used as well"
            if result["joint"]
            else "- evaluated by the captions of similar images and the images of similar captions"
        )
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _sides(target: Target) -> tuple[list[str], list[str]]:
    """The fields of embeddings of images, and of texts.

    Raises:
        UserError: if one of them is missing
    """
    texts = [name for name in vector_fields(target) if text_field_of(target, name) is not None]
    images = [name for name in vector_fields(target) if name not in texts]
    if not images or not texts:
        missing = "captions (with text_field)" if images else "images"
        raise UserError(f"No embeddings of {missing} yet; run 'Quality: compute embeddings'")
    return images, texts
