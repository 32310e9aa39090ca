"""FiftyOne's similarity index of embeddings that are there, whatever made them."""

from typing import Any

from ..embedding.registry import open_clip_config
from ..storage.runs import COMPUTING, DESCRIBING, embeddings_run
from ..storage.search_index import OPERATOR, TextTowerNames, check_index_key, create_index
from ..storage.target import Target
from .description import index_metric, text_tower
from .progress import Progress

# What an audit calls it.
SEARCH = OPERATOR


def index_embeddings(
    target: Target, embeddings: str, brain_key: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Creates an index of a field of embeddings, with text search where the model is known to.

    Args:
        target: the samples or patches; all of the dataset's are searched
        embeddings: the field
        brain_key: of the index
        progress (None): where the steps are reported

    Returns:
        a dict with ``similarity_index`` and ``text_search``

    Raises:
        UserError: if the key is taken, or the embeddings cannot be searched
    """
    check_index_key(target, embeddings, brain_key)
    (progress or Progress()).say("Creating the similarity index")
    tower, metric = known_tower(target, embeddings)
    create_index(target, embeddings, brain_key, tower, metric)
    return {"similarity_index": brain_key, "text_search": tower is not None}


def known_tower(target: Target, embeddings: str) -> tuple[TextTowerNames | None, str]:
    """The text tower of a field's model, if it is known to have one, and the index's measure."""
    if (run := embeddings_run(target, embeddings, DESCRIBING)) is not None:
        parameters = run.facts.parameters
        return text_tower(parameters.get("text_side")), index_metric(parameters.get("metric"))
    if (run := embeddings_run(target, embeddings, COMPUTING)) is not None and run.facts.model:
        # That of texts is called after their field, too.
        model = run.facts.parameters.get("model") or run.facts.model
        names = open_clip_config(model, run.facts.parameters.get("weights"))
        if names is not None:
            return TextTowerNames(*names), "cosine"
    return None, "cosine"
