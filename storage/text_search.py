"""FiftyOne's similarity index with text prompts over the vectors of an open_clip model."""

import os

import fiftyone as fo

from ..embedding.weights import reported_loading
from ..errors import UserError
from .ownership import MARK
from .references import delete_brain_run
from .target import Target


def is_our_index(dataset: fo.Dataset, brain_key: str) -> bool:
    """Whether there is such a brain run and the plugin made it.

    A user may have deleted ours, and made another one of the same name.
    """
    if not dataset.has_brain_run(brain_key):
        return False
    config = dataset.get_brain_info(brain_key).config
    if hasattr(config, MARK):
        return getattr(config, "type", None) == "similarity"
    # What an earlier version made carries no mark, but these.
    return getattr(config, "model", None) == "open-clip-torch"


def check_index_key(dataset: fo.Dataset, brain_key: str) -> None:
    """Refuses a brain key that belongs to another run.

    Raises:
        UserError: that names the key
    """
    if dataset.has_brain_run(brain_key) and not is_our_index(dataset, brain_key):
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
        delete_brain_run(target.dataset, brain_key)
    try:
        with reported_loading(f"open_clip:{architecture}", weights):
            index = fob.compute_similarity(
                target.view if target.is_frames else target.dataset,
                patches_field=target.patches_field,
                embeddings=embeddings,
                brain_key=brain_key,
                model="open-clip-torch",
                model_kwargs={"clip_model": architecture, "pretrained": pretrained},
                backend="sklearn",
                metric="cosine",
            )
            setattr(index.config, MARK, {"embeddings": target.dataset_path(embeddings)})
            index.save_config()
    except BaseException:
        # FiftyOne registers a run before it computes it.
        if target.dataset.has_brain_run(brain_key):
            delete_brain_run(target.dataset, brain_key)
        raise
