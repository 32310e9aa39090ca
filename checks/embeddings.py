"""The check ``compute_embeddings``: embeddings of images or patches, in a field of their own."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo

from ..embedding.names import ALIASES, embeds_texts_only, full_name, model_of_texts
from ..errors import UserError
from ..storage.findings import Column, declare_marked
from ..storage.locks import guard, writing
from ..storage.names import check_name, check_unclaimed
from ..storage.ownership import mark_of
from ..storage.paths import delete_field
from ..storage.references import delete_brain_run
from ..storage.runs import UNDER_REMOVAL, Run, RunFacts, embeddings_key, embeddings_run, write_run
from ..storage.search_index import check_index_key, indexes_of
from ..storage.target import Target
from ..storage.text_states import edited_texts, hashes_of, store_hashes, stored_hashes
from ..storage.texts import read_texts
from .contract import FILES, Check
from .description import check_not_described
from .embedded import Embedded, failures_of, store_embeddings, wanted_ids
from .progress import Progress, counted, counted_notes
from .search import index_embeddings, known_tower

EMBEDDINGS = Check(
    name="compute_embeddings",
    needs=frozenset({FILES}),
    columns=(
        # Called as the field itself and ``<field>_error``; the run is named after the field.
        Column("", fo.VectorField, "Embeddings of {model}"),
        Column(
            "error", fo.StringField, "The reason for a missing embedding; empty where there is one"
        ),
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


def default_field(model: str, text_field: str | None = None) -> str:
    """The field for embeddings, if none is named: ``clip``, ``timm_resnet18``, of texts
    ``caption_embeddings`` …
    """
    if text_field is not None:
        return re.sub(r"\W+", "_", f"{text_field}_embeddings")
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
    check_not_described(target, field)
    check_unclaimed(target.dataset, "embeddings", run)
    if not target.has_field(field):
        return Plan(field, run, None)  # nothing has filled it, or the user has deleted it
    stored = embeddings_run(target, field)
    if stored is not None and stored.unreadable is None and stored.facts.special.get("identity"):
        return Plan(field, run, stored.facts)
    identity = mark_of(target.dataset, path).get("identity")
    before = replace(facts, special={"identity": identity}) if identity else None
    return Plan(field, run, before)


def check_same_name(plan: Plan, model: str, overwrite: bool, text_field: str | None = None) -> None:
    """Refuses another model, or one that does not fit, before its weights are fetched.

    Raises:
        UserError: that names the model of the field
    """
    if text_field is None and embeds_texts_only(model):
        raise UserError(
            f"model={model!r} embeds texts: name their field with text_field= (Texts in the form)"
        )
    name = full_name(model) if text_field is None else model_of_texts(model, text_field)
    if plan.identity and not overwrite and plan.identity["name"] != name:
        raise _mixing_error(plan.field, plan.identity, name)


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
    text_field: str | None = None,
    engine: str | None = None,
) -> dict[str, Any]:
    """Computes the embeddings that are missing, stores them batch by batch, and reports on it.

    Args:
        target: the images or patches
        progress (None): where the steps are reported
        embeddings, model, weights, batch_size, device, overwrite, similarity_index, text_field,
            engine: as of the operator

    Raises:
        UserError: if the input is at fault; what was finished before stays
    """
    # Imported here: torch takes seconds, and FiftyOne imports this file to list operators.
    from ..embedding.pipeline import embed_images
    from ..embedding.ray_workers import ModelRequest, check_engine, embed_with_ray
    from ..embedding.registry import load_model
    from ..embedding.texts import embed_texts, load_text_model

    started = time.monotonic()
    progress = progress or Progress()
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be at least 1")
    check_engine(engine, text_field)
    if not target.ids():
        raise UserError(f"There are no patches in {target.patches_field!r} in this view")
    plan = plan_embeddings(target, embeddings or default_field(model, text_field))
    texts = read_texts(target, text_field) if text_field is not None else None
    check_same_name(plan, model, overwrite, text_field)
    if similarity_index is not None:
        check_index_key(target, plan.field, similarity_index)
    progress.say(f"Loading the model {model}")
    if texts is None or text_field is None:
        network: Any = load_model(model, weights, device)
    else:
        given = (text for text in texts.values() if text)
        network = load_text_model(model, text_field, given, weights, device)
    with writing(target.dataset, plan.run.key, progress.say):
        # Another operator may have filled the field meanwhile.
        with guard:
            target.dataset.reload()
        plan = plan_embeddings(target, plan.field)
        facts = _begin(target, plan, network.identity, overwrite)
        parameters = {"model": model, "weights": weights, "text_field": text_field}
        facts = replace(facts, parameters={**facts.parameters, **parameters})
        if similarity_index is not None:
            facts = replace(facts, special={**facts.special, "similarity_index": similarity_index})
        write_run(target.dataset, replace(plan.run, facts=facts))
        _declare(target, plan, network.identity, text_field)

        wanted, edited = wanted_ids(target, plan.field, overwrite), 0
        if texts is not None:
            wanted, edited = _with_edited(target, plan, texts, wanted)
        items = list(target.items(wanted))
        if texts is None and engine is None:
            batches = embed_images(network, items, batch_size)
        elif texts is None:
            request = ModelRequest(model, weights, device, network.identity.weights_hash)
            batches = embed_with_ray(request, items, batch_size)
        else:
            some = {id_: texts[id_] for id_ in target.ids() if id_ in wanted}
            batches = embed_texts(network, some, batch_size)
        done = store_embeddings(target, plan.field, items, batches, progress)
        # Those that are there have to follow the embeddings.
        kept = [run.key for run in _kept_indexes(target, plan)]
        made = [similarity_index] if similarity_index else []
        for index in dict.fromkeys([*made, *kept] if done.computed else made):
            index_embeddings(target, plan.field, index, progress)
        first_index = next(iter([*made, *kept]), None)
        notes = [*getattr(network, "notes", ()), *counted_notes(done.notes, target.noun)]
        if edited:
            notes.append(f"{counted(edited, 'text')} edited since and embedded again")
        more = {
            "similarity_index": first_index,
            "text_search": first_index is not None
            and known_tower(target, plan.field)[0] is not None,
            "notes": notes,
        }
        facts = _with_done(facts, done, more)
        facts = replace(facts, seconds=round(time.monotonic() - started, 2))
        stored = facts if target.is_whole else _of_dataset(target, plan, facts)
        write_run(target.dataset, replace(plan.run, facts=stored, finished=True))
    return {"run_key": plan.run.key, **_without_identity(facts.as_dict())}


def _with_edited(
    target: Target, plan: Plan, texts: Mapping[str, str | None], wanted: set[str]
) -> tuple[set[str], int]:
    """What is to be embedded with texts that were edited since, and how many those are.

    They lose their embeddings, and then all hashes are stored: see ``text_states``.
    """
    then, now = stored_hashes(target.dataset, plan.run), hashes_of(texts)
    embedded = edited_texts(now, then).intersection(target.ids(having=plan.field))
    target.write(plan.field, dict.fromkeys(embedded), target.sample_ids)
    wanted = wanted | embedded
    store_hashes(target.dataset, plan.run, {**then, **{id_: now[id_] for id_ in wanted}})
    return wanted, len(embedded)


def _with_done(facts: RunFacts, done: "Embedded", more: Mapping[str, Any]) -> RunFacts:
    """What a call reports of what it has embedded."""
    return replace(
        facts,
        read=done.total,
        evaluated=done.total - done.failed,
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
    failures = failures_of(reasons, list(everything.items(set(failed))))
    stored = len(everything.ids(having=plan.field))
    read = stored + len(failed)
    # Another model has replaced what was there.
    before = plan.before
    was_whole = before is not None and before.model == facts.model and before.whole
    return replace(
        facts,
        whole=was_whole or read == len(everything.ids()),
        read=read,
        evaluated=stored,
        skipped={failure["reason"]: failure["count"] for failure in failures},
        special={**facts.special, "failed": len(failed), "failures": failures},
    )


def _without_identity(result: dict[str, Any]) -> dict[str, Any]:
    identity = result.pop("identity")
    return {**result, **{name: identity[name] for name in ("weights", "dim", "precision")}}


def _begin(target: Target, plan: Plan, identity: Any, overwrite: bool) -> RunFacts:
    """What the run says of itself from the beginning; removes embeddings of another model."""
    before = dict(plan.before.special) if plan.before is not None else {}
    before.pop(UNDER_REMOVAL, None)
    facts = replace(
        plan.run.facts,
        parameters={"embeddings": plan.field, "patches_field": target.patches_field},
        whole=target.is_whole,
        model=identity.name,
        special={**before, "identity": identity.to_dict()},
    )
    # Of texts the name says of which field.
    other_texts = (
        " of " in identity.name and plan.identity and identity.name != plan.identity["name"]
    )
    if (
        plan.before is not None
        and plan.identity
        and (other_texts or not identity.same_vectors(plan.identity))
    ):
        if not overwrite:
            raise _mixing_error(plan.field, plan.identity, _describe(identity.to_dict()))
        # Until the old embeddings are removed, the run says that they are those of the old model.
        write_run(target.dataset, replace(plan.run, facts=plan.before))
        with guard:
            target.clear(plan.field)
            # With its mark, which names the old model.
            delete_field(target.dataset, target.dataset_path(plan.field))
        for index in _kept_indexes(target, plan):
            delete_brain_run(target.dataset, index.key)
    return facts


def _declare(target: Target, plan: Plan, identity: Any, text_field: str | None) -> None:
    """Makes the fields, with the mark of their run and of the model."""
    vector, error = EMBEDDINGS.columns
    with guard:
        meaning = vector.meaning.format(model=identity.name)
        model = identity.to_dict()
        of_texts: dict[str, Any] = {"text_field": text_field} if text_field is not None else {}
        declare_marked(
            target, plan.field, vector.field_type, meaning, plan.run, identity=model, **of_texts
        )
        declare_marked(target, f"{plan.field}_error", error.field_type, error.meaning, plan.run)


def _kept_indexes(target: Target, plan: Plan) -> list[Run]:
    """The indexes of the field that earlier runs have made."""
    named = plan.before.special.get("similarity_index") if plan.before is not None else None
    return indexes_of(target.dataset, [target.dataset_path(plan.field)], named)


def _mixing_error(field: str, identity: Mapping[str, Any], model: str) -> UserError:
    return UserError(
        f"The field {field!r} holds embeddings of {_describe(identity)}, not of "
        f"{model}; pass the same model=, or overwrite=True (in the App: Recompute existing "
        "embeddings) to replace them all, or another field name as embeddings="
    )


def _describe(identity: Mapping[str, Any]) -> str:
    """A model in a message: two of them may have the same name and other weights."""
    return f"{identity['name']} ({identity['weights']}, hash {identity['weights_hash'][:8]})"


def model_parameters(facts: RunFacts, otherwise: str = "") -> dict[str, Any]:
    """The parameters with which a run is repeated: ``model``, ``weights`` and ``text_field``.

    Args:
        facts: of the run
        otherwise (""): the model, where the run does not know it
    """
    parameters = facts.parameters
    text_field = parameters.get("text_field")
    name = facts.model or (facts.special.get("identity") or {}).get("name") or otherwise
    alias = next((alias for alias, full in ALIASES.items() if full == name), name)
    return {
        # That of texts is called after their field, too.
        "model": parameters["model"] if text_field else alias,
        "weights": parameters.get("weights"),
        "text_field": text_field,
    }
