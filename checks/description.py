"""The check ``describe_embeddings``: what made embeddings that the plugin has not computed."""

import time
from dataclasses import dataclass, replace
from typing import Any

from ..embedding.names import full_name
from ..errors import UserError
from ..storage.locks import guard, writing
from ..storage.names import check_name
from ..storage.references import delete_run
from ..storage.runs import (
    COMPUTING,
    DESCRIBING,
    REDUCING,
    Run,
    RunFacts,
    embeddings_key,
    embeddings_run,
    read_run,
    write_run,
)
from ..storage.search_index import (
    TextTowerNames,
    check_index_key,
    check_searchable,
    create_index,
    indexes_of,
    is_our_index,
)
from ..storage.target import Target
from ..storage.vectors import VectorSet, embeddings_field, read_vectors
from .contract import EMBEDDINGS, Check
from .progress import Progress

DESCRIPTION = Check(name=DESCRIBING, needs=frozenset({EMBEDDINGS}))

# What embeddings are of, for the form; others can be named.
KINDS = ("images", "patches", "texts", "audio", "graph", "metadata")

# How the model's embeddings are meant to be compared.
METRICS = ("cosine", "dot", "euclidean")

# Characters of what a user may state.
MAX_LENGTH = 500


@dataclass(frozen=True)
class Description:
    """What a user states about embeddings that were made elsewhere.

    Attributes:
        model: the name of what made them; two fields of the same name are of one space
        of: of what: ``images``, ``texts``, ``audio``, ``graph``, …
        metric: how the model's embeddings are meant to be compared: ``cosine``, ``dot`` or
            ``euclidean``
        text_side: what embeds texts into the same space; ``clip`` and ``open_clip:…`` are used

    Raises:
        UserError: that names a parameter that is out of range
    """

    model: str
    of: str = "images"
    metric: str = "cosine"
    text_side: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("model", self.model), ("of", self.of), ("text_side", self.text_side)):
            if text is None:
                continue
            if not text.strip():
                raise UserError(f"{name}={text!r} is empty; pass a text")
            if len(text) > MAX_LENGTH or not text.isprintable():
                raise UserError(
                    f"{name}= must be one line of at most {MAX_LENGTH} characters, without tabs"
                )
        if self.metric not in METRICS:
            raise UserError(
                f"metric={self.metric!r} is not known; choose {', '.join(map(repr, METRICS))}"
            )

    @property
    def full_model(self) -> str:
        """``clip`` is what ``compute_embeddings`` calls it, so that the two are known as one."""
        return full_name(self.model)


def plan_description(target: Target, embeddings: str) -> tuple[Run, Run | None]:
    """The run that will describe a field, and the one that did so before.

    Raises:
        UserError: if there is no such field, or the plugin has filled it itself
    """
    name = embeddings_field(target, embeddings)
    key = embeddings_key(target, name)
    check_name("embeddings", key)
    before = read_run(target.dataset, key)
    if before is not None and before.operator in (COMPUTING, REDUCING):
        raise UserError(
            f"embeddings={embeddings!r} was filled by {before.operator} with "
            f"{before.facts.model}, which is known; only embeddings that were computed elsewhere "
            "are described"
        )
    if before is not None and before.operator != DESCRIBING:
        raise UserError(
            f"embeddings={embeddings!r}: the name {key!r} belongs to a run of {before.operator}; "
            f"delete that first with delete_run(run_key={key!r})"
        )
    path = target.dataset_path(name)
    facts = RunFacts(
        about=target.about,
        parameters={"embeddings": name, "patches_field": target.patches_field},
        special={"described": path},
    )
    if before is not None and before.facts.special.get("described") not in (None, path):
        raise UserError(
            f"embeddings={embeddings!r}: {before.facts.special['described']!r} is already "
            f"described under the same name {key!r}; delete that first with "
            f"delete_run(run_key={key!r})"
        )
    return Run(key, DESCRIBING, (), facts), before


def describe_embeddings(
    target: Target,
    description: Description,
    progress: Progress | None = None,
    *,
    embeddings: str,
    similarity_index: str | None = None,
) -> dict[str, Any]:
    """Stores what made the embeddings of a field, which stay as they are.

    Args:
        target: the samples or patches; a description is of all that the field holds
        description: what the user states
        progress (None): where the steps are reported
        embeddings, similarity_index: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier description then stays
    """
    started = time.monotonic()
    progress = progress or Progress()
    target = target.everything
    run, before = plan_description(target, embeddings)
    name = run.facts.parameters["embeddings"]
    progress.say("Reading the embeddings")
    vectors = read_vectors(target, name)
    _check_one_length(vectors, embeddings)
    text_tower(description.text_side)
    if similarity_index is not None:
        check_index_key(target, name, similarity_index)
        check_searchable(target, name)
    index = similarity_index or _index_before(target, before)
    facts = replace(
        run.facts,
        parameters={**run.facts.parameters, **vars(description)},
        model=description.full_model,
        read=len(vectors.ids) + sum(vectors.skipped.values()),
        evaluated=len(vectors.ids),
        skipped=vectors.skipped,
        special={
            **run.facts.special,
            "dim": int(vectors.matrix.shape[1]),
            "similarity_index": index,
            "text_search": _reads_texts(target, index),
        },
    )
    with writing(target.dataset, run.key, progress.say):
        with guard:
            target.dataset.reload()
        plan_description(target, embeddings)
        if similarity_index is not None:
            # The run owns the index before it is made: what is interrupted can be taken away.
            write_run(target.dataset, replace(run, facts=facts))
            progress.say("Creating the similarity index")
            try:
                facts = _with_index(target, facts, similarity_index)
            except UserError:
                _put_back(target, run, before)
                raise
        facts = replace(facts, seconds=round(time.monotonic() - started, 2))
        write_run(target.dataset, replace(run, facts=facts, finished=True))
    return {"run_key": run.key, **facts.as_dict()}


def _check_one_length(vectors: VectorSet, embeddings: str) -> None:
    """Refuses embeddings of which one model cannot have made all."""
    if others := [why for why in vectors.skipped if why.startswith(("embedding of", "array"))]:
        reasons = ", ".join(f"{vectors.skipped[why]:,} × {why}" for why in others)
        raise UserError(
            f"embeddings={embeddings!r} is not from one model: {reasons}; clear these or store "
            "them in a separate field"
        )


def _index_before(target: Target, before: Run | None) -> str | None:
    """The index of an earlier description, unless it was deleted."""
    index = before.facts.special.get("similarity_index") if before is not None else None
    return index if index and is_our_index(target.dataset, index) else None


def _reads_texts(target: Target, index: str | None) -> bool:
    runs = indexes_of(target.dataset, (), index)
    return any(run.facts.special["text_search"] for run in runs)


def _with_index(target: Target, facts: RunFacts, brain_key: str) -> RunFacts:
    tower = text_tower(facts.parameters["text_side"])
    metric = index_metric(facts.parameters["metric"])
    create_index(target, facts.parameters["embeddings"], brain_key, tower, metric)
    return replace(facts, special={**facts.special, "text_search": tower is not None})


def _put_back(target: Target, run: Run, before: Run | None) -> None:
    """What was said before is said again."""
    if before is None:
        with guard:
            delete_run(target.dataset, run.key)
    else:
        write_run(target.dataset, before, written_at=before.written_at)


def check_not_described(target: Target, field: str) -> None:
    """Refuses to compute embeddings into a field that is described as made elsewhere.

    Raises:
        UserError: that names the model, and the way out
    """
    run = embeddings_run(target, field, DESCRIBING)
    if run is None:
        return
    way_out = "choose another field"
    if not target.has_field(field):
        way_out += f", or delete the description with delete_run(run_key={run.key!r})"
    raise UserError(
        f"embeddings={field!r} is described as embeddings of {run.facts.model} that were "
        f"computed elsewhere, and no others are added to it; {way_out}"
    )


def index_metric(metric: str | None) -> str:
    """What FiftyOne's index compares by; for a product, which it does not know, the angle."""
    return "euclidean" if metric == "euclidean" else "cosine"


def text_tower(text_side: str | None) -> TextTowerNames | None:
    """The text tower that FiftyOne can load by a name, or None: ``clip``, ``open_clip:…``."""
    from ..embedding.registry import open_clip_config

    if text_side is None:
        return None
    names = open_clip_config(text_side, None)
    if names is None:
        return None
    if not all(names):
        raise UserError(
            f"text_side={text_side!r} must be 'clip' or 'open_clip:<architecture>/<pretrained>', "
            "with open_clip's tag or the path of a file with the weights"
        )
    return TextTowerNames(*names)
