"""The fields that several forms have, each made in one place."""

import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import fiftyone.operators.types as types

from ..checks.progress import duration
from ..cores import has_fast_16_bits, num_cores
from ..embedding.names import full_name
from ..errors import UserError
from ..storage.findings import Column, default_run_key, plan_findings
from ..storage.index_search import similarity_indexes
from ..storage.labels import label_fields
from ..storage.metadata import default_split, names_splits, split_fields
from ..storage.paths import patches_fields
from ..storage.runs import read_run
from ..storage.search_index import default_index_key
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.texts import text_fields
from ..storage.vectors import vector_fields

# For the forecast of embeddings: what loading torch and a model takes, and images per second on two
# cores, with 16-bit arithmetic in hardware and without.
LOADING_SECONDS = 5
RATES = {full_name("clip"): (50, 11), full_name("cnn"): (60, 40)}
OTHER_MODELS, TEXTS, ON_A_GPU = (20, 8), (500, 300), 300

# The value of a choice that stands for no value; the App shows an empty one as a blank.
NOT_CHOSEN = "(none)"


def show_error(container: types.Object, text: str) -> None:
    """Shows an error in a form or a result; a form can then not be executed."""
    error = container.view("error", types.Error(label=text))
    error.invalid = True
    error.error_message = text


def choice_input(
    inputs: types.Object,
    name: str,
    options: Sequence[str] | dict[str, str],
    *,
    label: str,
    description: str | None = None,
    none: str | None = None,
    default: str | None = None,
) -> None:
    """A choice from a list in a form.

    Args:
        inputs: the form
        name: the parameter
        options: the values, or the values with what is shown for each
        label, description: of the field
        none (None): what is shown for no choice, if that is one
        default (None): the value that is chosen at first; else none, or the first one
    """
    choices = types.DropdownView()
    if none is not None:
        choices.add_choice(NOT_CHOSEN, label=none)
    for value in options:
        choices.add_choice(value, label=options[value] if isinstance(options, dict) else value)
    inputs.enum(
        name,
        choices.values(),
        default=default or choices.values()[0],
        view=choices,
        label=label,
        description=description,
    )


def patches_input(
    ctx: Any, samples: Any, inputs: types.Object, verb: str, default: str | None = None
) -> str | None:
    """The form's choice between whole images and the patches of a field; returns the choice."""
    fields = patches_fields(samples)
    if not fields:
        return None
    options = {name: f"Patches in {name}" for name in fields}
    choice_input(inputs, "patches_field", options, label=verb, none="Whole images", default=default)
    chosen = ctx.params.get("patches_field") or default
    return None if chosen in ("", None, NOT_CHOSEN) else chosen


def embeddings_input(ctx: Any, target: Target, inputs: types.Object) -> str:
    """The form's choice of the field with embeddings; returns the choice.

    Raises:
        UserError: if there are no embeddings yet
    """
    fields = vector_fields(target)
    if not fields:
        raise UserError(
            f"No embeddings are stored for the {target.noun} yet; run 'Quality: compute embeddings'"
        )
    choice_input(
        inputs,
        "embeddings",
        fields,
        label="Embeddings",
        description="The field with the embeddings",
    )
    chosen = ctx.params.get("embeddings")
    return chosen if chosen in fields else fields[0]


def neighbors_input(ctx: Any, samples: Any, inputs: types.Object) -> None:
    """The form's choice of a vector database that finds the neighbors, where there is one."""
    embeddings = ctx.params.get("embeddings")
    chosen = ctx.params.get("patches_field")
    if not embeddings or embeddings == NOT_CHOSEN or not ctx.dataset.list_brain_runs():
        return
    target = resolve_target(samples, None if chosen in ("", NOT_CHOSEN) else chosen)
    if indexes := similarity_indexes(target, embeddings):
        choice_input(
            inputs,
            "neighbors",
            indexes,
            label="Nearest neighbors",
            description="Taken from the vector database of a similarity index",
            none="The plugin's own search",
        )


def labels_input(
    target: Target,
    inputs: types.Object,
    description: str,
    required: bool = True,
    more: Sequence[str] = (),
    default: str | None = None,
) -> list[str]:
    """The form's choice of the field with labels; returns the choices.

    A field whose values are names of splits is not chosen unasked.

    Raises:
        UserError: if one is required and there is none
    """
    fields = [*label_fields(target), *more]
    if target.patches_field is None:
        fields.sort(key=lambda name: names_splits(target, name))
    if not fields:
        if required:
            raise UserError(
                "No field holds labels (a Classification or string per sample); add one, or "
                "choose the patches of a Detections or Polylines field"
            )
        return fields
    if default is None and target.patches_field is None and names_splits(target, fields[0]):
        default = fields[0] if required else NOT_CHOSEN
    choice_input(
        inputs,
        "label_field",
        fields,
        label="Labels",
        description=description,
        none=None if required else "None",
        default=default or fields[0],
    )
    return fields


def split_input(
    target: Target, inputs: types.Object, description: str, label_field: str | None = None
) -> None:
    """The form's choice of what names the splits; what does so is chosen at first."""
    fields = [name for name in split_fields(target) if name != label_field]
    default = default_split(target)
    choice_input(
        inputs,
        "split",
        fields,
        label="Split",
        description=description,
        none="None",
        default=default if default in fields else None,
    )


def run_key_input(
    ctx: Any,
    target: Target,
    operator: str,
    columns: Sequence[Column],
    views: Sequence[str],
    inputs: types.Object,
    named: str | None = None,
) -> str:
    """The form's name of the run, with what happens to an earlier one; returns the name.

    Raises:
        UserError: if the name is taken
    """
    default = default_run_key(target, operator, named)
    key = (ctx.params.get("run_key") or "").strip() or default
    before = read_run(target.dataset, key) if re.fullmatch(r"\w+", key) else None
    text = ""
    if columns:
        text = f"Fields {key}_{columns[0].name}, … and saved views start with this name"
    if before is not None and before.operator == operator:
        text = f"Replaces the run {key!r} of {(before.written_at or '')[:16].replace('T', ' ')} UTC"
    inputs.str(
        "run_key",
        label="Name of the run",
        description=text,
        view=types.View(placeholder=default),
    )
    plan_findings(target, operator, key, columns, views)
    return key


def evaluation_notice(
    target: Target,
    embeddings: str,
    inputs: types.Object,
    starting: float,
    each: float,
    verb: str = "evaluated",
) -> None:
    """Says in a form how many will be evaluated, and how long that takes.

    Args:
        target: the samples or patches
        embeddings: the field of the embeddings
        inputs: the form
        starting, each: seconds to start, and for each embedding
        verb ("evaluated"): what becomes of them
    """
    count = len(target.ids(having=embeddings))
    took = duration(starting + count * each)
    text = f"{count:,} of {len(target.ids()):,} {target.noun} have embeddings and will be {verb}"
    inputs.view("plan", types.Notice(label=f"{text}, which takes about {took}"))


def model_input(inputs: types.Object, description: str) -> None:
    """The form's choice of a model; others than those that are offered may be typed."""
    models = types.AutocompleteView()
    models.add_choice("clip", label="clip", description="OpenCLIP ViT-B-32, 512 dimensions")
    models.add_choice("cnn", label="cnn", description="EfficientNet-Lite0, small and fast")
    inputs.str("model", default="clip", view=models, label="Model", description=description)


def texts_input(target: Target, inputs: types.Object, description: str, *, none: str) -> None:
    """The form's choice of a field of texts, where there is one."""
    if texts := text_fields(target):
        choice_input(inputs, "text_field", texts, label="Texts", description=description, none=none)


def embedding_seconds(model: str, count: int, rate: float | None = None) -> float:
    """About how long embeddings take to compute.

    Args:
        model: the model's full name
        count: images, patches or texts
        rate (None): how many a second were measured, if they were
    """
    if rate is None and shutil.which("nvidia-smi"):
        # Importing torch to ask it for a GPU would freeze the form for seconds.
        rate = ON_A_GPU
    if rate is None:
        rates = RATES.get(model, TEXTS if " of " in model else OTHER_MODELS)
        rate = rates[not has_fast_16_bits()] * num_cores() / 2
    return LOADING_SECONDS + count / rate


def index_input(
    ctx: Any, inputs: types.Object, embeddings: str, *, checked: bool, text: bool = False
) -> str | None:
    """The form's offer of FiftyOne's similarity index; returns its brain key if it is wanted.

    Args:
        ctx: the context of the form
        inputs: the form
        embeddings: the field that is indexed
        checked: whether it is wanted unasked
        text (False): whether the index searches by text, too
    """
    what = "image or text" if text else "image"
    inputs.bool(
        "searchable",
        default=checked,
        label=f"Search by {what}",
        description="Creates a FiftyOne similarity index, which 'Sort by similarity' and the "
        "App's search use",
    )
    wanted = ctx.params.get("searchable")
    if not (checked if wanted is None else wanted):
        return None
    default = default_index_key(embeddings)
    inputs.str(
        "similarity_index",
        label="Name of the index",
        description="A brain key",
        view=types.View(placeholder=default),
    )
    return (ctx.params.get("similarity_index") or "").strip() or default


def index_from_form(given: dict[str, Any], embeddings: Callable[[], str]) -> dict[str, Any]:
    """Turns the offer of an index into the parameter ``similarity_index``.

    Args:
        given: what the form sends; a script that calls FiftyOne's executor sends no offer
        embeddings: returns the field that is indexed
    """
    if "searchable" not in given:
        return given
    if not given.pop("searchable"):
        # What was typed before the offer was turned down is still sent.
        return {**given, "similarity_index": None}
    key = str(given.get("similarity_index") or "").strip()
    return {**given, "similarity_index": key or default_index_key(embeddings())}
