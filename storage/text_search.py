"""FiftyOne's similarity index with text prompts over the vectors of an open_clip model."""

import os

import fiftyone as fo

from ..embedding.weights import reported_loading
from ..errors import UserError
from .targets import Target


def check_index_key(dataset: fo.Dataset, brain_key: str, ours: bool) -> None:
    """Refuses a brain key that belongs to another run.

    Raises:
        UserError: that names the key
    """
    if dataset.has_brain_run(brain_key) and not ours:
        raise UserError(
            f"similarity_index={brain_key!r}: the dataset already has a brain run of that name "
            "that this plugin did not make; choose another name"
        )


def create_text_index(
    target: Target, embeddings: str, brain_key: str, architecture: str, pretrained: str
) -> None:
    """Creates the similarity index, in place of an earlier one of that key.

    FiftyOne loads the text tower by itself, in the App's server and in later sessions, from what
    is stored here: its zoo model ``open-clip-torch`` with the architecture and the tag or file
    that the vectors were computed with, so that both towers are the same weights.

    Args:
        target: whose vectors are indexed
        embeddings: the field of the vectors
        brain_key: the key of FiftyOne's brain run
        architecture: open_clip's name of the architecture
        pretrained: open_clip's tag, or a local file
    """
    import fiftyone.brain as fob

    weights = pretrained if os.path.isfile(pretrained) else None
    if target.dataset.has_brain_run(brain_key):
        target.dataset.delete_brain_run(brain_key)
    try:
        with reported_loading(f"open_clip:{architecture}", weights):
            fob.compute_similarity(
                target.view if target.dataset_path("").startswith("frames.") else target.dataset,
                patches_field=target.patches_field,
                embeddings=embeddings,
                brain_key=brain_key,
                model="open-clip-torch",
                model_kwargs={"clip_model": architecture, "pretrained": pretrained},
                backend="sklearn",
                metric="cosine",
            )
    except BaseException:
        # FiftyOne registers a run before it computes it.
        if target.dataset.has_brain_run(brain_key):
            target.dataset.delete_brain_run(brain_key)
        raise
