"""The stored embeddings of a target as one matrix, and what identifies them."""

import hashlib
import io
import itertools
import logging
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId

from ..errors import UserError
from .names import is_used
from .paths import is_patches, list_name, patches_root
from .target import Target

logger = logging.getLogger(__name__)

# Documents asked for at once.
BATCH = 10_000


@dataclass(frozen=True)
class VectorSet:
    """Embeddings in the order of the ids of their samples or objects.

    Attributes:
        ids: ids of the samples or objects
        sample_ids: the sample of each
        matrix: ``(num_ids, dim)`` float32, finite
        skipped: how many of the target have no embedding here, by reason
    """

    ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    matrix: np.ndarray
    skipped: dict[str, int]

    def take(self, chosen: np.ndarray) -> "VectorSet":
        """Those where ``chosen``, ``(num_ids,)`` bool, is true."""
        rows = np.flatnonzero(chosen)
        ids, sample_ids = (
            tuple(names[row] for row in rows) for names in (self.ids, self.sample_ids)
        )
        return VectorSet(ids, sample_ids, self.matrix[rows], self.skipped)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the ids and the embeddings: equal for equal embeddings of the same samples."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(" ".join(self.ids).encode())
        digest.update(str(self.matrix.shape).encode())
        digest.update(np.ascontiguousarray(self.matrix).data)
        return digest.hexdigest()


def read_vectors(target: Target, embeddings: str) -> VectorSet:
    """Reads the embeddings of a target.

    Fields that FiftyOne or the user filled are read as well as the plugin's own.

    Args:
        target: the samples or patches
        embeddings: the field of their embeddings

    Returns:
        a ``VectorSet``; what has no embedding, or one with NaN or infinity, or of another length
        than most, is skipped and counted

    Raises:
        UserError: if there is no such field, or no embeddings in it, or no length prevails
    """
    name = embeddings_field(target, embeddings)
    is_vector = isinstance(target.all_samples.get_field(target.path(name)), fo.VectorField)
    rows = _read_raw(target, name) if is_vector else None
    if rows is None:
        rows = _read_values(target, name)
    return _vector_set(target, embeddings, rows)


def _vector_set(target: Target, embeddings: str, rows: "Rows") -> VectorSet:
    total = len(target.ids())
    remedy = (
        f"choose another field, or, if this plugin filled it, run compute_embeddings(embeddings="
        f"{embeddings!r}, overwrite=True)"
    )
    if not rows:
        raise UserError(
            f"The field {embeddings!r} holds no embeddings for the {total:,} {target.noun} of this "
            f"view; run compute_embeddings(embeddings={embeddings!r}) first"
        )
    if all(vector.ndim != 1 for _, vector in rows.values()):
        raise UserError(f"embeddings={embeddings!r} holds arrays that are not one-dimensional")
    skipped = Counter({"no embedding": total - len(rows)})
    lengths = Counter(len(vector) for _, vector in rows.values() if vector.ndim == 1)
    (dim, prevailing), *others = lengths.most_common()
    if others and prevailing <= len(rows) / 2:
        counts = ", ".join(f"{count:,} of length {dim}" for dim, count in lengths.most_common())
        raise UserError(
            f"The field {embeddings!r} holds embeddings of several models ({counts}); {remedy}"
        )
    for length, count in others:
        skipped[f"embedding of length {length}, where most have {dim}"] = count
    skipped["array that is not one-dimensional"] = len(rows) - sum(lengths.values())
    ids = sorted(id_ for id_, (_, vector) in rows.items() if vector.shape == (dim,))
    if any(rows[id_][1].dtype.kind == "c" for id_ in ids):
        raise UserError(f"The embeddings in {embeddings!r} hold complex numbers; {remedy}")
    # What has been copied is let go: of a million embeddings both would be 5 GB.
    matrix, samples = np.empty((len(ids), dim), np.float32), []
    finite = np.empty(len(ids), bool)
    with np.errstate(over="ignore"):
        for row, id_ in enumerate(ids):
            sample, matrix[row] = rows.pop(id_)
            samples.append(sample)
    for start in range(0, len(ids), BATCH):
        part = slice(start, start + BATCH)
        finite[part] = np.isfinite(matrix[part]).all(axis=1)
    skipped["embedding with NaN or infinity"] = int((~finite).sum())
    if not finite.any():
        raise UserError(
            f"All embeddings in {embeddings!r} hold NaN or infinity, or numbers beyond float32; "
            f"{remedy}"
        )
    if not finite.all():
        ids, samples = (list(itertools.compress(each, finite)) for each in (ids, samples))
        matrix = matrix[finite]
    return VectorSet(tuple(ids), tuple(samples), matrix, dict(+skipped))


def embeddings_field(target: Target, embeddings: str, called: str = "embeddings") -> str:
    """The name of a field of embeddings on the target, however it was given.

    Args:
        target: the samples or patches
        embeddings: the field, or its full path: ``feats.clip`` of the samples,
            ``dogs.detections.clip`` of patches
        called ("embeddings"): the parameter that names it, for what is wrong with it

    Raises:
        UserError: if there is no such field, or it holds no embeddings, with the way out
    """
    samples = target.all_samples
    name = embeddings.removeprefix(target.root) if target.root else embeddings
    names = ", ".join(vector_fields(target)) or "none"
    field = samples.get_field(target.path(name)) if name.strip(".$") else None
    if field is None:
        if _is_undeclared(target, name):
            raise UserError(
                f"{called}={embeddings!r}: the {target.noun} have this attribute, but the "
                "dataset does not declare it; run dataset.add_sample_field("
                f"{target.dataset_path(name)!r}, fo.VectorField) first"
            )
        raise UserError(
            f"{called}={embeddings!r}: there is no such field on the {target.noun}; run "
            f"compute_embeddings(embeddings={embeddings!r}) first, or choose one of the fields "
            f"with embeddings: {names}"
        )
    owner = list_name(samples, name)
    if target.patches_field is None and owner != name and is_patches(samples.get_field(owner)):
        inner = name.removeprefix(patches_root(samples, owner))
        raise UserError(
            f"{called}={embeddings!r} holds embeddings of patches; pass "
            f"patches_field={owner!r}, {called}={inner!r}"
        )
    if not _is_vector_field(field):
        raise UserError(
            f"{called}={embeddings!r} is of type {type(field).__name__}, not embeddings; "
            f"fields with embeddings: {names}"
        )
    return name


def _is_undeclared(target: Target, name: str) -> bool:
    parts = name.split(".")
    if not all(parts) or (target.patches_field is None and len(parts) == 1):
        return False
    return is_used(target.dataset, target.dataset_path(name))


def vector_fields(target: Target) -> list[str]:
    """The names of the fields of a target that hold embeddings."""
    schema = target.view.get_field_schema(flat=True)
    root = target.root
    found = [
        path.removeprefix(root)
        for path, field in schema.items()
        if isinstance(field, fo.VectorField) and path.startswith(root)
    ]
    if root:
        return [name for name in found if "." not in name]
    # Those of an embedded document too, but not what labels bring, logits say.
    return [name for name in found if list_name(target.view, name) == name]


def _is_vector_field(field: Any) -> bool:
    if isinstance(field, (fo.VectorField, fo.ArrayField)):
        return True
    return isinstance(field, fo.ListField) and isinstance(
        field.field, (fo.FloatField, fo.IntField, type(None))
    )


Rows = dict[str, tuple[str, np.ndarray]]


def _read_values(target: Target, embeddings: str) -> Rows:
    """By FiftyOne's own call: the sample's id and the embedding, by id."""
    samples = target.sample_ids
    return {
        id_: (samples[id_], _array(value))
        for id_, (value,) in target.values(embeddings).items()
        if value is not None
    }


def _array(value: Any) -> np.ndarray:
    """A stored embedding; what holds something else than numbers is NaN there."""
    try:
        array = np.asarray(value)
        return array if array.dtype.kind in "fiubc" else np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return np.full(np.shape(value)[:1], np.nan)


def _read_raw(target: Target, embeddings: str) -> Rows | None:
    """By the stored bytes, six times faster, or None where they are not as expected.

    FiftyOne decodes every document into Python objects; here only the embeddings' bytes are asked
    for, and NumPy's header is parsed once.
    """
    try:
        collection = target.view._dataset._sample_collection
        parser = _ArrayParser()
        wanted = target.sample_ids
        sample_ids = sorted(set(wanted.values()))
        # The fields as they are called in the database.
        path = f"{target.root}{embeddings}"
        id_path = f"{target.root}_id"
        rows: Rows = {}
        for start in range(0, len(sample_ids), BATCH):
            batch = [ObjectId(id_) for id_ in sample_ids[start : start + BATCH]]
            query = {"_id": {"$in": batch}}
            for document in collection.find(query, {path: True, id_path: True}):
                sample_id = str(document["_id"])
                for label_id, value in _values_in(document, target.root, embeddings):
                    id_ = (
                        label_id
                        if target.patches_field is None
                        else target.name_of(sample_id, label_id)
                    )
                    if value is not None and id_ in wanted:
                        rows[id_] = (sample_id, parser.parse(value))
        return rows
    except Exception:
        logger.debug("Reading raw embeddings failed; FiftyOne's own call is used", exc_info=True)
        return None


def _values_in(document: dict, root: str, name: str) -> list[tuple[str, Any]]:
    """The ids and the raw values of what lies in a document."""
    value: Any = document
    for part in filter(None, root.split(".")):
        value = (value or {}).get(part)
    rows = value if isinstance(value, list) else [value] if value else []
    return [(str(row["_id"]), _at(row, name)) for row in rows]


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = (document or {}).get(part)
    return document


class _ArrayParser:
    """zlib-compressed ``.npy`` bytes to arrays; a header that came before is not parsed again."""

    def __init__(self) -> None:
        self._headers: dict[bytes, tuple[np.dtype, int]] = {}

    def parse(self, value: bytes) -> np.ndarray:
        data = zlib.decompress(value)
        length = 10 + int.from_bytes(data[8:10], "little")
        header = data[:length]
        if header in self._headers:
            return np.frombuffer(data, self._headers[header], offset=length)
        array = np.load(io.BytesIO(data), allow_pickle=False)
        if array.ndim == 1 and data[6] == 1:
            self._headers[header] = array.dtype
        return array
