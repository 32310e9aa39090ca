"""The check ``compute_embeddings``: embeddings of images or patches, in a field of their own."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo

from ..embedding.registry import ALIASES, full_name
from ..errors import UserError
from ..storage.background import BackgroundWriter
from ..storage.findings import Column, declare_marked
from ..storage.locks import guard, writing
from ..storage.names import check_name, check_unclaimed
from ..storage.ownership import mark_of
from ..storage.paths import delete_field
from ..storage.references import delete_brain_run
from ..storage.runs import UNDER_REMOVAL, Run, RunFacts, embeddings_key, embeddings_run, write_run
from ..storage.target import Item, Target
from ..storage.text_search import check_index_key, create_text_index, is_our_index
from .contract import FILES, Check
from .progress import Progress, counted_notes

# Failures of one kind that a result names as examples.
MAX_EXAMPLES = 3

EMBEDDINGS = Check(
    name="compute_embeddings",
    needs=frozenset({FILES}),
    columns=(
        # Called as the field itself and ``<field>_error``; the run is named after the field.
        Column("", fo.VectorField, "Embeddings of {model}"),
        Column("error", fo.StringField, "Why there is no embedding; empty where there is one"),
    ),
)


@dataclass(frozen=True)
class Plan:
    """What ``compute_embeddings`` will write, and what is there already.

    Attributes:
        field: the field of the embeddings
        run: the run that will fill it
        before: what filled it before; None if nothing has
    """

    field: str
    run: Run
    before: RunFacts | None

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """The model of the embeddings that are there."""
        return self.before.special.get("identity") if self.before is not None else None


def default_field(model: str) -> str:
    """The field for a model's embeddings, if none is named: ``clip``, or ``timm_resnet18`` …"""
    return re.sub(r"\W+", "_", model).strip("_") or "embeddings"


def plan_embeddings(target: Target, field: str) -> Plan:
    """The run that will write a field, and what did so before, checked before any work is done.

    A field without its run, in the clone of a view say, is adopted with the model that its mark
    names.

    Raises:
        UserError: if the name cannot be used, or names something that is not the plugin's
    """
    field = field.removeprefix(target.root) if target.root else field
    check_name("embeddings", field)
    path = target.dataset_path(field)
    facts = RunFacts(about=target.about)
    run = Run(embeddings_key(target, field), EMBEDDINGS.name, (path, f"{path}_error"), facts)
    check_unclaimed(target.dataset, "embeddings", run)
    if not target.has_field(field):
        return Plan(field, run, None)  # nothing has filled it, or the user has deleted it
    stored = embeddings_run(target, field)
    if stored is not None and stored.unreadable is None and stored.facts.special.get("identity"):
        return Plan(field, run, stored.facts)
    identity = mark_of(target.dataset, path).get("identity")
    before = replace(facts, special={"identity": identity}) if identity else None
    return Plan(field, run, before)


def check_same_name(plan: Plan, model: str, overwrite: bool) -> None:
    """Refuses another model before its weights are fetched.

    Raises:
        UserError: that names the model of the field
    """
    if plan.identity and not overwrite and plan.identity["name"] != full_name(model):
        raise _mixing_error(plan, full_name(model))


def compute_embeddings(
    target: Target,
    progress: Progress | None = None,
    *,
    embeddings: str | None = None,
    model: str = "clip",
    weights: str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    similarity_index: str | None = None,
) -> dict[str, Any]:
    """Computes the embeddings that are missing, stores them batch by batch, and tells about it.

    Args:
        target: the images or patches
        progress (None): where the steps are reported
        embeddings, model, weights, batch_size, device, overwrite, similarity_index: as of the
            operator

    Raises:
        UserError: if the input is at fault; what was finished before stays
    """
    # Imported here: torch takes seconds, and FiftyOne imports this file to list operators.
    from ..embedding.registry import load_model, open_clip_config

    started = time.monotonic()
    progress = progress or Progress()
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be at least 1")
    if not target.ids():
        raise UserError(f"There are no patches in {target.patches_field!r} in this view")
    plan = plan_embeddings(target, embeddings or default_field(model))
    check_same_name(plan, model, overwrite)
    clip = open_clip_config(model, weights)
    if similarity_index is not None:
        _check_index(target, similarity_index, clip, model)
    progress.say(f"Loading the model {model}")
    network = load_model(model, weights, device)
    with writing(target.dataset, plan.run.key, progress.say) as lock:
        # Another operator may have filled the field meanwhile.
        with guard:
            target.dataset.reload()
        plan = plan_embeddings(target, plan.field)
        facts = _begin(target, plan, network.identity, overwrite)
        facts = replace(facts, parameters={**facts.parameters, "model": model, "weights": weights})
        if similarity_index is not None:
            facts = replace(facts, special={**facts.special, "similarity_index": similarity_index})
        write_run(target.dataset, replace(plan.run, facts=facts))
        _declare(target, plan, network.identity)

        done = _embed(target, plan.field, network, overwrite, batch_size, progress)
        index = similarity_index or _kept_index(target, plan)
        if similarity_index or (index and done.computed):
            progress.say("Creating the similarity index")
            create_text_index(target, plan.field, index, *clip)
        notes = [*getattr(network, "notes", ()), *counted_notes(done.notes, target.noun)]
        more = {"similarity_index": index, "notes": notes}
        facts = _with_done(facts, done, more)
        facts = replace(facts, seconds=round(time.monotonic() - started, 2))
        lock.check()
        stored = facts if target.is_whole else _of_dataset(target, plan, facts)
        write_run(target.dataset, replace(plan.run, facts=stored, finished=True))
    return {"run_key": plan.run.key, **_without_identity(facts.as_dict())}


def _with_done(facts: RunFacts, done: "_Done", more: Mapping[str, Any]) -> RunFacts:
    """What a call tells of what it has embedded."""
    return replace(
        facts,
        read=done.total,
        judged=done.total - done.failed,
        skipped={failure["reason"]: failure["count"] for failure in done.failures},
        special={
            **facts.special,
            "computed": done.computed,
            "reused": done.total - done.wanted,
            "failed": done.failed,
            "failures": done.failures,
            "small_objects": done.small,
            "images_per_second": round(done.computed / done.seconds, 1) if done.computed else None,
            **more,
        },
    )


def _of_dataset(target: Target, plan: Plan, facts: RunFacts) -> RunFacts:
    """What the run of a field says after a call on a view: of all that the field holds."""
    everything, error = target.everything, f"{plan.field}_error"
    failed = everything.ids(having=error)
    reasons = {id_: row[0] for id_, row in target.only(failed).values(error).items()}
    failures = _failures(reasons, list(everything.items(set(failed))))
    judged = len(everything.ids(having=plan.field))
    read = judged + len(failed)
    # Another model has replaced what was there.
    stays = plan.before is not None and plan.before.model == facts.model
    return replace(
        facts,
        whole=(stays and plan.before.whole) or read == len(everything.ids()),
        read=read,
        judged=judged,
        skipped={failure["reason"]: failure["count"] for failure in failures},
        special={**facts.special, "failed": len(failed), "failures": failures},
    )


def _without_identity(result: dict[str, Any]) -> dict[str, Any]:
    identity = result.pop("identity")
    return {**result, **{name: identity[name] for name in ("weights", "dim", "precision")}}


def _begin(target: Target, plan: Plan, identity: Any, overwrite: bool) -> RunFacts:
    """What the run says of itself from the beginning; removes embeddings of another model."""
    facts = replace(
        plan.run.facts,
        parameters={"embeddings": plan.field, "patches_field": target.patches_field},
        whole=target.is_whole,
        model=identity.name,
        special={
            **(plan.before.special if plan.before is not None else {}),
            "identity": identity.to_dict(),
        },
    )
    facts.special.pop(UNDER_REMOVAL, None)
    if plan.identity and not identity.same_vectors(plan.identity):
        if not overwrite:
            raise _mixing_error(plan, _describe(identity.to_dict()))
        # Until the old embeddings are gone, the run says that they are those of the old model.
        write_run(target.dataset, replace(plan.run, facts=plan.before))
        with guard:
            target.clear(plan.field)
            # With its mark, which names the old model.
            delete_field(target.dataset, target.dataset_path(plan.field))
        if index := _kept_index(target, plan):
            delete_brain_run(target.dataset, index)
    return facts


def _declare(target: Target, plan: Plan, identity: Any) -> None:
    """Makes the fields, with the mark of their run and of the model."""
    vector, error = EMBEDDINGS.columns
    with guard:
        meaning = vector.meaning.format(model=identity.name)
        model = identity.to_dict()
        declare_marked(target, plan.field, vector.field_type, meaning, plan.run, identity=model)
        declare_marked(target, f"{plan.field}_error", error.field_type, error.meaning, plan.run)


@dataclass(frozen=True)
class _Done:
    """What has been embedded.

    Attributes:
        total, wanted: how many images or patches there are, and were to be embedded
        failures: reasons with their counts and examples, the most frequent first
        small: patches that are too small to say much
        notes: what is to be told of how images were read, once for each image or patch
        seconds: what it took
    """

    total: int
    wanted: int
    failures: list[dict[str, Any]]
    small: int
    notes: list[str]
    seconds: float

    @property
    def failed(self) -> int:
        return sum(failure["count"] for failure in self.failures)

    @property
    def computed(self) -> int:
        return self.wanted - self.failed


def _embed(
    target: Target,
    field: str,
    network: Any,
    overwrite: bool,
    batch_size: int | None,
    progress: Progress,
) -> _Done:
    """Embeds what has no embeddings yet, or all, and stores it as it comes.

    Raises:
        UserError: if nothing could be embedded
    """
    from ..embedding.pipeline import embed_pictures

    started, total = time.monotonic(), len(target.ids())
    wanted = set(target.ids())
    if not overwrite:
        wanted -= set(target.ids(having=field))
    items = list(target.items(wanted))
    with progress.stage("Embedding", len(wanted), target.noun) as advance:
        batches = embed_pictures(network, items, batch_size)
        reasons, small, notes = _store(target, field, batches, advance)
    failures = _failures(reasons, items)
    if wanted and len(reasons) == len(wanted) == total:
        worst = failures[0]
        raise UserError(
            f"None of the {total:,} {target.noun} could be embedded. Most often "
            f"({worst['count']:,} times): {worst['reason']}, for example {worst['examples'][0]}"
        )
    return _Done(total, len(wanted), failures, small, notes, time.monotonic() - started)


def _store(
    target: Target, field: str, batches: Iterable, advance: Callable[[int], None]
) -> tuple[dict[str, str], int, list[str]]:
    """Writes embeddings and reasons as they come; reasons, small patches, and notes."""
    had_reason = set(target.ids(having=f"{field}_error"))
    reasons: dict[str, str] = {}
    small, notes = 0, []

    def write(results: dict[str, Any]) -> None:
        failed = {id_: value for id_, value in results.items() if isinstance(value, str)}
        vectors = {id_: value for id_, value in results.items() if id_ not in failed}
        mended = had_reason.intersection(results.keys() - failed.keys())
        target.write(field, vectors, target.sample_ids)
        target.write(f"{field}_error", {**dict.fromkeys(mended), **failed}, target.sample_ids)

    with BackgroundWriter(write) as writer:
        for batch in batches:
            writer.put({**batch.vectors, **batch.failures})
            reasons |= batch.failures
            small += batch.small
            notes += batch.notes.values()
            advance(len(batch.vectors) + len(batch.failures))
    return reasons, small, notes


def _failures(reasons: dict[str, str], items: list[Item]) -> list[dict[str, Any]]:
    """Reasons with their counts and some files, the most frequent first."""
    paths = {id_: item.filepath for item in items for id_ in item.ids if id_ in reasons}
    examples: dict[str, list[str]] = {}
    for id_, reason in reasons.items():
        examples.setdefault(reason, []).append(paths[id_])
    by_count = sorted(examples.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [
        {"reason": reason, "count": len(files), "examples": sorted(set(files))[:MAX_EXAMPLES]}
        for reason, files in by_count
    ]


def _check_index(target: Target, brain_key: str, clip: tuple | None, model: str) -> None:
    check_name("similarity_index", brain_key)
    if clip is None:
        raise UserError(
            f"similarity_index= needs a model with a text tower, clip or open_clip:…, not {model!r}"
        )
    check_index_key(target.dataset, brain_key)


def _kept_index(target: Target, plan: Plan) -> str | None:
    """The index of an earlier run, which has to follow the embeddings, unless it was deleted."""
    index = plan.before.special.get("similarity_index") if plan.before is not None else None
    return index if index and is_our_index(target.dataset, index) else None


def _mixing_error(plan: Plan, model: str) -> UserError:
    return UserError(
        f"The field {plan.field!r} holds vectors of {_describe(plan.identity)}, not of "
        f"{model}; pass overwrite=True (in the App: Recompute existing embeddings) to replace them "
        "all, or another field name as embeddings="
    )


def _describe(identity: Mapping[str, Any]) -> str:
    """A model in a message: two of them may have the same name and other weights."""
    return f"{identity['name']} ({identity['weights']}, hash {identity['weights_hash'][:8]})"


def alias_of(facts: RunFacts, otherwise: str) -> str:
    """The name by which a user asks for the model of a run."""
    name = facts.model or (facts.special.get("identity") or {}).get("name") or otherwise
    return next((alias for alias, full in ALIASES.items() if full == name), name)
