"""``compute_embeddings``: embeddings of images, patches or texts, in a field of their own."""

from importlib.util import find_spec
from typing import Any

import fiftyone.operators.types as types

from ..checks.embeddings import (
    EMBEDDINGS,
    Plan,
    check_same_name,
    compute_embeddings,
    default_field,
    plan_embeddings,
)
from ..checks.progress import Progress, duration
from ..embedding.names import embeds_texts_only, full_name, model_of_texts
from ..embedding.registry import open_clip_config
from ..markup import code, markdown
from ..storage.search_index import check_index_key
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.text_states import edited_since
from .base import QualityOperator
from .form_fields import (
    NOT_CHOSEN,
    choice_input,
    embedding_seconds,
    index_from_form,
    index_input,
    model_input,
    patches_input,
    texts_input,
)


class ComputeEmbeddings(QualityOperator):
    name = EMBEDDINGS.name
    label = "Quality: compute embeddings"
    description = (
        "Compute CLIP (open_clip), CNN (timm) or zoo model embeddings of images, patches or texts "
        "and store them in a field that the other Quality operators use"
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
        text_field: str | None = None,
        engine: str | None = None,
    ) -> dict[str, Any]:
        """Computes the embeddings that are missing and stores them batch by batch.

        Args:
            samples: a dataset or view of images; a grouped dataset stands for its active slice
            embeddings (None): the field for the embeddings, by default ``clip``, ``cnn`` or the
                model's name; reasons for missing embeddings go to ``<embeddings>_error``
            patches_field (None): a Detections or Polylines field; the embeddings are then computed
                of its objects, each within the square around its box, and stored on them
            model ("clip"): ``clip``, ``cnn``, ``open_clip:<architecture>/<pretrained>``,
                ``timm:<name>`` or ``zoo:<name of a FiftyOne zoo model>``
            weights (None): a local file with the model's weights (safetensors or torch)
            batch_size (None): images per forward pass; by default what suits the device
            device (None): ``cpu``, ``cuda``, …; by default a GPU if there is one
            overwrite (False): compute all embeddings of these samples again; with another model
                than before, all embeddings in the field are removed first
            similarity_index (None): a brain key; FiftyOne's similarity index of the embeddings is
                created under it, which for open_clip models searches by text, too
            text_field (None): a field of strings, captions say, of the samples or patches, whose
                texts are embedded instead of images. The model is then
                ``text:<sentence-transformers name or local folder>``, ``words:<file>`` of Word2Vec
                or GloVe embeddings, or the text tower of ``clip`` or ``open_clip:…``
            engine (None): ``ray`` computes on a Ray cluster (``RAY_ADDRESS``, or one on this
                machine): one worker for each GPU, or for a few cores; the files must be readable
                there under the same paths. By default this process does

        Returns:
            a dict with ``run_key``, ``embeddings``, ``model``, ``dim``, ``read``, ``computed``,
            ``reused``, ``failed``, ``failures``, ``small_objects``, ``images_per_second``,
            ``seconds``

        Raises:
            UserError: if the input is at fault; what was finished before stays
        """
        return compute_embeddings(
            resolve_target(samples, patches_field),
            progress,
            embeddings=embeddings,
            model=model,
            weights=weights,
            batch_size=batch_size,
            device=device,
            overwrite=overwrite,
            similarity_index=similarity_index,
            text_field=text_field,
            engine=engine,
        )

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        params = self._parameters(ctx.params, from_form=True)
        patches_field = patches_input(ctx, samples, inputs, "Embed")
        model_input(
            inputs,
            "clip (OpenCLIP ViT-B-32), cnn (EfficientNet-Lite0), "
            "open_clip:<architecture>/<pretrained>, timm:<name> or zoo:<FiftyOne zoo name>; "
            "for texts text:<name or folder> or words:<file>",
        )
        model, text_field = params["model"], params["text_field"]
        default = default_field(model, text_field)
        field = params["embeddings"] or default
        inputs.str(
            "embeddings",
            label="Field for the embeddings",
            description=f"By default {default}; reasons for missing embeddings go to {field}_error",
            view=types.View(placeholder=default),
        )
        inputs.bool(
            "overwrite",
            default=False,
            label="Recompute existing embeddings",
            description="Otherwise only missing embeddings are computed",
        )
        target = resolve_target(samples, patches_field)
        text = open_clip_config(model, params["weights"]) is not None
        key = index_input(ctx, inputs, field, checked=False, text=text)
        if key is not None:
            check_index_key(target, field, key)
        inputs.bool("more_options", default=False, label="More options", view=types.SwitchView())
        more = bool(ctx.params.get("more_options"))
        if more or text_field or embeds_texts_only(model):
            texts_input(
                target,
                inputs,
                "Embed the texts of a field; the model is text:<sentence-transformers name or "
                "folder>, words:<file>, clip or open_clip:…",
                none="None: embed the images",
            )
        if more:
            inputs.str(
                "weights",
                label="Weights file",
                description="A local safetensors or torch file instead of downloaded weights",
            )
            inputs.int(
                "batch_size",
                min=1,
                label="Batch size",
                description="Default: depends on the device",
            )
            inputs.str(
                "device",
                label="Device",
                description="cpu, cuda, cuda:1, …; default: the fastest available",
            )
            if find_spec("ray") is not None:
                choice_input(
                    inputs,
                    "engine",
                    {"ray": "A Ray cluster"},
                    label="Compute on",
                    description="At RAY_ADDRESS; its workers must be able to read the files",
                    none="This machine",
                )

        plan = plan_embeddings(target, field)
        overwrite = params["overwrite"]
        check_same_name(plan, model, overwrite, text_field)
        called = model_of_texts(model, text_field) if text_field else full_name(model)
        inputs.view("plan", types.Notice(label=_forecast(target, plan, called, overwrite)))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        def field() -> str:
            texts = given.get("text_field")
            texts = None if texts == NOT_CHOSEN else texts or None
            named = str(given.get("embeddings") or "").strip()
            return named or default_field(str(given.get("model") or "clip"), texts)

        return index_from_form(given, field)

    def summary(self, result: dict[str, Any]) -> str:
        noun = "patches" if result["patches_field"] else "images"
        noun = "texts" if result["parameters"].get("text_field") else noun
        lines = [
            f"**{result['computed']:,}** of {result['read']:,} {noun} embedded with "
            f"{code(result['model'])} into **{code(result['embeddings'])}** ({result['dim']} "
            "dimensions)",
        ]
        if result["reused"]:
            lines.append(f"- {result['reused']:,} already had embeddings")
        if result["images_per_second"]:
            took = duration(result["seconds"])
            lines.append(f"- {result['images_per_second']:,} {noun}/s, {took} in total")
        if result["small_objects"]:
            lines.append(
                f"- {result['small_objects']:,} patches are less than 8 pixels wide or high"
            )
        lines += [f"- {markdown(note)}" for note in result["notes"]]
        if result["failed"]:
            lines.append(
                f"- **{result['failed']:,} could not be embedded**; the reasons are in "
                f"{code(result['embeddings'] + '_error')}:"
            )
            for failure in result["failures"]:
                lines.append(
                    f"  - {failure['count']:,} × {markdown(failure['reason'])}, "
                    f"for example {code(failure['examples'][0])}"
                )
        if result["similarity_index"]:
            by = "image and text" if result["text_search"] else "image"
            lines.append(f"- search by {by} in the App: {code(result['similarity_index'])}")
        return "\n".join(lines)


def _forecast(target: Target, plan: Plan, called: str, overwrite: bool) -> str:
    """What will happen, for the form; ``called`` is the model's full name."""
    total, present = len(target.ids()), len(target.ids(having=plan.field))
    # Those of another model are replaced.
    ours = plan.identity is not None and plan.identity["name"] == called
    done = present if ours and not overwrite else 0
    if done:
        # Texts that were edited are embedded again.
        _, edited = edited_since(target, plan.field)
        done -= len(edited.intersection(target.ids(having=plan.field)))
    text = f"{total - done:,} of {total:,} {target.noun} will be embedded"
    if overwrite and present:
        text += f", the embeddings in {plan.field} are replaced"
    if total == done:
        return f"All {total:,} {target.noun} already have embeddings; nothing will be computed"
    rate = plan.before.special.get("images_per_second") if ours and plan.before else None
    return f"{text}, which takes about {duration(embedding_seconds(called, total - done, rate))}"
