"""What ``find_duplicates`` compares: the files and pixels of images, or the words of texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..steps import part_of
from ..storage.metadata import read_splits
from ..storage.runs import model_of
from ..storage.texts import read_texts, text_name
from .inputs import Inputs
from .progress import counted_notes

if TYPE_CHECKING:
    from ..analysis.duplicates import Duplicates
    from ..pictures.small_images import SmallImages


def compared_texts(inputs: Inputs, text_field: str | None, keep: str) -> str | None:
    """The field whose texts are compared; None where images are.

    Args:
        inputs: what is compared: of embeddings of texts, the texts
        text_field, keep: as of ``find_duplicates``

    Raises:
        UserError: if the embeddings are of something else, or the texts have no dates
    """
    known, target = inputs.text_field, inputs.target
    name = known if text_field is None else text_name(target, text_field)
    if name is None:
        return None
    # Where embeddings come from that the plugin did not compute is not known.
    if name != known and (known is not None or model_of(target, inputs.embeddings) is not None):
        whose = f"the texts in {known!r}" if known is not None else "images"
        raise UserError(
            f"text_field={text_field!r}: the embeddings in {inputs.embeddings!r} are of {whose}; "
            "omit embeddings= to find equal texts, or run compute_embeddings(text_field="
            f"{text_field!r}) and name its field"
        )
    if keep in ("oldest", "newest"):
        raise UserError(
            f"keep={keep!r} uses the dates of image files; for texts, choose 'auto' or 'largest'"
        )
    return name


def compare_texts(
    inputs: Inputs,
    text_field: str,
    split: str | list | None,
    threshold: float | None,
    keep: str,
    apart: np.ndarray,
) -> tuple["Duplicates", list[str]]:
    """The duplicates among texts, and notes on them; no file is read.

    Args:
        inputs: what is compared; without embeddings, only the same normalized texts are found
        text_field: the field of the texts
        split, threshold, keep: as of ``find_duplicates``
        apart: (m, 2) int64 pairs of rows that are no duplicates

    Raises:
        UserError: if the field or the split is wrong
    """
    from ..analysis.text_duplicates import find_text_duplicates

    found = read_texts(inputs.target, text_field)
    texts = [found[id_] for id_ in inputs.ids]
    rows, graph = (inputs.rows, inputs.graph) if inputs.embeddings else (None, None)
    splits, labels = _splits_and_labels(inputs, split)
    preference = None
    if keep == "largest":
        preference = np.array([-len(text or "") for text in texts], np.float64)
    with inputs.progress.share("Comparing the texts", len(texts), inputs.target.noun) as report:
        duplicates = find_text_duplicates(
            texts,
            rows,
            graph,
            threshold=threshold,
            labels=labels,
            splits=splits,
            preference=preference,
            apart=apart,
            progress=report,
        )
    return duplicates, []


def _splits_and_labels(
    inputs: Inputs, split: str | list | None
) -> tuple[list[str | None] | None, np.ndarray | None]:
    samples = [sample for sample, _, _ in inputs.items]
    splits = read_splits(inputs.target, split, samples) if split is not None else None
    return splits, inputs.codes if inputs.label_field is not None else None


def compare_images(
    inputs: Inputs,
    split: str | list | None,
    threshold: float | None,
    keep: str,
    apart: np.ndarray,
) -> tuple["Duplicates", list[str]]:
    """The duplicates among images, and notes on how they were read.

    Args:
        inputs: what is compared; without embeddings, only exact copies are found
        split, threshold, keep: as of ``find_duplicates``
        apart: (m, 2) int64 pairs of rows that are no duplicates

    Raises:
        UserError: if the split is wrong
    """
    from ..analysis.duplicates import find_duplicates as duplicates_of
    from ..pictures.file_copies import exact_copies
    from ..pictures.small_images import ImageOrPatch, read_small_images

    _, files, boxes = zip(*inputs.items)
    splits, labels = _splits_and_labels(inputs, split)
    rows, graph = (inputs.rows, inputs.graph) if inputs.embeddings else (None, None)
    images = [ImageOrPatch(file, box) for file, box in zip(files, boxes)]
    noun = inputs.target.noun
    with inputs.progress.share("Comparing the images", len(images), noun) as report:
        small = read_small_images(images, part_of(report, 0.0, 0.6))
        copies = exact_copies(small, part_of(report, 0.6, 0.7))
        preference, undated = _preference(keep, small, files)
        found = duplicates_of(
            small,
            copies,
            rows,
            graph,
            threshold=threshold,
            labels=labels,
            splits=splits,
            preference=preference,
            apart=apart,
            progress=part_of(report, 0.7, 1.0),
        )
        return found, [*counted_notes(small.notes.values(), noun), *undated]


def _preference(
    keep: str, small: "SmallImages", files: Sequence[str]
) -> tuple[np.ndarray | None, list[str]]:
    """What is preferred, the lowest first, ``(n,)`` or None, and notes on that."""
    from ..pictures.dates import taken_at

    if keep == "auto":
        return None, []
    if keep == "largest":
        return -small.num_pixels.astype(np.float64), []
    dates = taken_at(files)
    undated = int(np.isnan(dates).sum())
    notes = [f"{undated:,} of {len(dates):,} without an EXIF date, ranked last"]
    return dates if keep == "oldest" else -dates, notes if undated else []
