"""``compute_embeddings``: vectors of images or objects, stored in a field of their own."""

import dataclasses
import re
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..embedding.registry import full_name
from ..errors import UserError
from ..storage.background import BackgroundWriter
from ..storage.runs import Run, check_name, check_unclaimed, read_run, write_run
from ..storage.targets import Item, Target, resolve_target
from ..storage.text_search import check_index_key, create_text_index
from .base import QualityOperator, patches_input
from .progress import Progress, duration

# Failures of one kind that a result names as examples.
MAX_EXAMPLES = 3

# What loading torch and a model takes, for the forecast in the form.
LOADING_SECONDS = 5


class ComputeEmbeddings(QualityOperator):
    name = "compute_embeddings"
    label = "Quality: compute embeddings"
    description = (
        "Compute CLIP (open_clip), CNN (timm) or zoo model embeddings of images or object patches "
        "and store them in a field; the other Quality operators work on these vectors"
    )
    icon = "scatter_plot"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None = None,
        patches_field: str | None = None,
        model: str = "clip",
        weights: str | None = None,
        batch_size: int | None = None,
        device: str | None = None,
        overwrite: bool = False,
        similarity_index: str | None = None,
    ) -> dict[str, Any]:
        """Computes the vectors that are missing and stores them batch by batch.

        Args:
            samples: a dataset or view of images; a grouped dataset stands for its active slice
            embeddings (None): the field for the vectors, by default ``clip``, ``cnn`` or the
                model's name; reasons for missing vectors go to ``<embeddings>_error``
            patches_field (None): a Detections or Polylines field; the vectors are then computed
                of its objects, each within the square around its box, and stored on them
            model ("clip"): ``clip``, ``cnn``, ``open_clip:<architecture>/<pretrained>``,
                ``timm:<name>`` or ``zoo:<name of a FiftyOne zoo model>``
            weights (None): a local file with the model's weights (safetensors or torch)
            batch_size (None): pictures per forward pass; by default what suits the device
            device (None): ``cpu``, ``cuda``, …; by default a GPU if there is one
            overwrite (False): compute all vectors of these samples anew; with another model
                than before, all vectors in the field are removed first
            similarity_index (None): a brain key; for open_clip models, FiftyOne's similarity
                index with search by text is created under it

        Returns:
            a dict with ``run_key``, ``embeddings``, ``model``, ``dim``, ``read``, ``computed``,
            ``reused``, ``failed``, ``failures``, ``small_objects``, ``notes``,
            ``images_per_second``, ``seconds``

        Raises:
            UserError: if the input is at fault; what was finished before stays
        """
        # Imported here: torch takes seconds, and FiftyOne imports this file to list operators.
        from ..embedding.pipeline import embed_pictures
        from ..embedding.registry import load_model, open_clip_config

        started = time.monotonic()
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be at least 1")
        target = resolve_target(samples, patches_field)
        field = embeddings or default_field(model)
        all_ids = target.ids()
        if not all_ids:
            raise UserError(f"There are no objects in {target.patches_field!r} in this view")
        run, before = _plan(target, field)
        _check_same_name(field, model, before, overwrite)
        clip = open_clip_config(model, weights)
        if similarity_index is not None:
            _check_similarity_index(target, similarity_index, clip, model, before)

        progress.say(f"Loading the model {model}")
        network = load_model(model, weights, device)
        identity = network.identity
        # Loading took seconds, in which another operator may have begun to fill the field.
        target.dataset.reload()
        run, before = _plan(target, field)
        if before is not None and not identity.same_vectors(before.facts["identity"]):
            if not overwrite:
                raise _mixing_error(field, before, _describe(identity.to_dict()))
            target.clear(field)
            _delete_index(target, before)

        facts = {"identity": identity.to_dict(), "patches_field": target.patches_field}
        if similarity_index is not None:
            facts["similarity_index"] = similarity_index
        if before is not None:
            facts = {**before.facts, **facts}
        run = dataclasses.replace(run, facts=facts)
        write_run(target.dataset, run)
        target.declare(field, fo.VectorField)
        target.declare(f"{field}_error", fo.StringField)

        wanted = set(all_ids) if overwrite else set(all_ids) - set(target.ids(having=field))
        items = list(target.items(wanted))
        computing = time.monotonic()
        with progress.stage("Embedding", len(wanted), target.things) as advance:
            batches = embed_pictures(network, items, batch_size)
            reasons, small = _store(target, field, items, batches, advance)
        computing = time.monotonic() - computing

        computed = len(wanted) - len(reasons)
        failures = _failures(reasons, items)
        if wanted and not computed and len(wanted) == len(all_ids):
            worst = failures[0]
            raise UserError(
                f"None of the {len(wanted):,} {target.things} could be embedded. Most often "
                f"({worst['count']:,} times): {worst['reason']}, for example {worst['examples'][0]}"
            )
        seconds = time.monotonic() - started
        result = {
            "run_key": run.key,
            "embeddings": field,
            "patches_field": target.patches_field,
            "whole": target.is_whole,
            "model": identity.name,
            "weights": identity.weights,
            "dim": identity.dim,
            "precision": identity.precision,
            "read": len(all_ids),
            "computed": computed,
            "reused": len(all_ids) - len(wanted),
            "failed": len(reasons),
            "failures": failures,
            "small_objects": small,
            "notes": list(network.notes),
            "images_per_second": round(computed / computing, 1) if computed else None,
            "similarity_index": similarity_index or _kept_index(target, before),
            "seconds": round(seconds, 2),
        }
        if similarity_index or (result["similarity_index"] and computed):
            progress.say("Creating the similarity index")
            create_text_index(target, field, result["similarity_index"], *clip)
        # Findings are out of date since new vectors came, not since somebody looked for some.
        unchanged = before.written_at if before is not None and not computed else None
        done = dataclasses.replace(run, facts={**facts, **result}, finished=True)
        write_run(target.dataset, done, written_at=unchanged)
        return result

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        params = self._parameters(ctx.params, from_form=True)
        patches_field = patches_input(ctx, samples, inputs, "Embed")
        model_input(
            inputs,
            "clip (OpenCLIP ViT-B-32), cnn (EfficientNet-Lite0), "
            "open_clip:<architecture>/<pretrained>, timm:<name> or zoo:<FiftyOne zoo name>",
        )
        model = params["model"]
        field = params["embeddings"] or default_field(model)
        inputs.str(
            "embeddings",
            label="Field for the vectors",
            description=f"By default {default_field(model)}; reasons for missing vectors go to "
            f"{field}_error",
            view=types.View(placeholder=default_field(model)),
        )
        inputs.bool(
            "overwrite",
            default=False,
            label="Compute all anew",
            description="Otherwise only what has no vector yet is computed",
        )
        inputs.bool("more_options", default=False, label="More options", view=types.SwitchView())
        if ctx.params.get("more_options"):
            inputs.str(
                "weights",
                label="Weights file",
                description="A local safetensors or torch file instead of downloaded weights",
            )
            inputs.str(
                "similarity_index",
                label="Text search index",
                description="A brain key: creates FiftyOne's similarity index, so that the App's "
                "search by text works on these vectors (clip and open_clip models)",
            )
            inputs.int("batch_size", min=1, label="Batch size", description="Default: by device")
            inputs.str("device", label="Device", description="cpu, cuda, cuda:1, …; default: best")

        target = resolve_target(samples, patches_field)
        _, before = _plan(target, field)
        overwrite = params["overwrite"]
        _check_same_name(field, model, before, overwrite)
        if before is not None and before.facts["identity"]["name"] != full_name(model):
            before = None
        inputs.view("plan", types.Notice(label=_forecast(target, field, model, before, overwrite)))

    def summary(self, result: dict[str, Any]) -> str:
        things = "objects" if result["patches_field"] else "images"
        lines = [
            f"**{result['computed']:,}** of {result['read']:,} {things} embedded with "
            f"`{result['model']}` into **`{result['embeddings']}`** ({result['dim']} dimensions)",
        ]
        if result["reused"]:
            lines.append(f"- {result['reused']:,} had a vector already")
        if result["images_per_second"]:
            took = duration(result["seconds"])
            lines.append(f"- {result['images_per_second']:,} {things}/s, {took} in all")
        lines += [f"- {note}" for note in result["notes"]]
        if result["small_objects"]:
            lines.append(f"- {result['small_objects']:,} objects are under 8 pixels wide or high")
        if result["failed"]:
            lines.append(
                f"- **{result['failed']:,} could not be embedded**; the reasons are in "
                f"`{result['embeddings']}_error`:"
            )
            for failure in result["failures"]:
                lines.append(
                    f"  - {failure['count']:,} × {failure['reason']}, "
                    f"for example `{failure['examples'][0]}`"
                )
        if result["similarity_index"]:
            lines.append(f"- search by text in the App: `{result['similarity_index']}`")
        return "\n".join(lines)


def model_input(inputs: types.Object, description: str) -> None:
    """The form's choice of a model; others than those that are offered may be typed."""
    models = types.AutocompleteView()
    models.add_choice("clip", label="clip", description="OpenCLIP ViT-B-32, 512 dimensions")
    models.add_choice("cnn", label="cnn", description="EfficientNet-Lite0, small and fast")
    inputs.str("model", default="clip", view=models, label="Model", description=description)


def default_field(model: str) -> str:
    """The field for a model's vectors, if none is named: ``clip``, or ``timm_resnet18`` …"""
    return re.sub(r"\W+", "_", model).strip("_") or "embeddings"


def _describe(identity: dict[str, Any]) -> str:
    """A model in a message: two of them may have the same name and other weights."""
    return f"{identity['name']} ({identity['weights']}, hash {identity['weights_hash'][:8]})"


def _mixing_error(field: str, before: Run, model: str) -> UserError:
    return UserError(
        f"The field {field!r} holds vectors of {_describe(before.facts['identity'])}, not of "
        f"{model}; pass overwrite=True (in the App: Compute all anew) to replace them all, or "
        "another field name as embeddings="
    )


def _check_same_name(field: str, model: str, before: Run | None, overwrite: bool) -> None:
    """Refuses another model before its weights are fetched."""
    if before and not overwrite and before.facts["identity"]["name"] != full_name(model):
        raise _mixing_error(field, before, full_name(model))


def _plan(target: Target, field: str) -> tuple[Run, Run | None]:
    """The run that will write the field, and the one that did so before."""
    check_name("embeddings", field)
    paths = (target.dataset_path(field), target.dataset_path(f"{field}_error"))
    # The run is named after its field.
    run = Run(paths[0].replace(".", "_"), ComputeEmbeddings.name, paths)
    check_unclaimed(target.dataset, "embeddings", run)
    before = read_run(target.dataset, run.key)
    if before is not None and target.dataset.get_field(paths[0]) is None:
        before = None  # the user has deleted the field
    return run, before


def _check_similarity_index(
    target: Target, brain_key: str, clip: tuple | None, model: str, before: Run | None
) -> None:
    check_name("similarity_index", brain_key)
    if clip is None:
        raise UserError(
            f"similarity_index= needs a model with a text tower, clip or open_clip:…, not {model!r}"
        )
    ours = before is not None and before.facts.get("similarity_index") == brain_key
    check_index_key(target.dataset, brain_key, ours)


def _kept_index(target: Target, before: Run | None) -> str | None:
    """The index of an earlier run, which has to follow the vectors, unless it was deleted."""
    index = before.facts.get("similarity_index") if before is not None else None
    return index if index and target.dataset.has_brain_run(index) else None


def _delete_index(target: Target, before: Run) -> None:
    """Removes the index of vectors that are gone."""
    if index := _kept_index(target, before):
        target.dataset.delete_brain_run(index)


def _store(
    target: Target, field: str, items: list[Item], batches: Iterable, advance: Callable[[int], None]
) -> tuple[dict[str, str], int]:
    """Writes vectors and reasons as they come; returns the reasons and the number of small ones."""
    sample_ids = {id_: item.sample_id for item in items for id_ in item.ids}
    had_reason = set(target.ids(having=f"{field}_error"))
    reasons: dict[str, str] = {}
    small = 0

    def write(results: dict[str, Any]) -> None:
        failed = {id_: value for id_, value in results.items() if isinstance(value, str)}
        vectors = {id_: value for id_, value in results.items() if id_ not in failed}
        mended = had_reason.intersection(results.keys() - failed.keys())
        target.write(field, vectors, sample_ids)
        target.write(f"{field}_error", {**dict.fromkeys(mended), **failed}, sample_ids)

    with BackgroundWriter(write) as writer:
        for batch in batches:
            writer.put({**batch.vectors, **batch.failures})
            reasons |= batch.failures
            small += batch.small
            advance(len(batch.vectors) + len(batch.failures))
    return reasons, small


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


def _forecast(target: Target, field: str, model: str, before: Run | None, overwrite: bool) -> str:
    """What will happen, for the form."""
    total, present = len(target.ids()), len(target.ids(having=field))
    done = 0 if overwrite or before is None else present
    text = f"{total - done:,} of {total:,} {target.things} will be embedded"
    if overwrite and present:
        text += f", the vectors in {field} are replaced"
    if total == done:
        return f"All {total:,} {target.things} have a vector already; nothing will be computed"
    rate = before.facts.get("images_per_second") if before is not None else None
    if rate is None:
        # Importing torch to ask it for a GPU would freeze the form for seconds.
        rate = 300 if shutil.which("nvidia-smi") else {"clip": 50, "cnn": 60}.get(model, 20)
    return f"{text}, which takes roughly {duration(LOADING_SECONDS + (total - done) / rate)}"
