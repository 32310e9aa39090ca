"""Of which text each embedding is, as ``compute_embeddings`` remembers, and what was edited.

A hash of each text is stored with the run of its field before the embedding is. What is edited
loses its embedding before the new hash is stored, so that a process that is killed in between
leaves what the next call completes.
"""

import hashlib
from collections.abc import Mapping

import fiftyone as fo
import numpy as np

from ..errors import UserError
from .arrays import decode, encode
from .runs import Run, read_results, write_results
from .target import Target
from .texts import computing_run, read_texts


def hashes_of(texts: Mapping[str, str | None]) -> dict[str, int]:
    """A 64-bit hash of each text, by id; no text is an empty one."""
    return {
        id_: int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=8).digest(), "big")
        for id_, text in texts.items()
    }


def stored_hashes(dataset: fo.Dataset, run: Run) -> dict[str, int]:
    """Hashes of the texts that a run has embedded, by id; empty where it did not store them."""
    results = read_results(dataset, run.key)
    ids, hashes = getattr(results, "text_ids", None), getattr(results, "text_hashes", None)
    if not ids or not hashes:
        return {}
    return dict(zip(ids.split(), decode(hashes).tolist()))


def store_hashes(dataset: fo.Dataset, run: Run, hashes: Mapping[str, int]) -> None:
    """Stores hashes of texts with a run."""
    ids = sorted(hashes)
    array = np.array([hashes[id_] for id_ in ids], np.uint64)
    write_results(dataset, run.key, text_ids=" ".join(ids), text_hashes=encode(array))


def edited_texts(now: Mapping[str, int], then: Mapping[str, int]) -> set[str]:
    """The ids whose text is another one now; those of which nothing is known are skipped.

    Args:
        now, then: hashes by id
    """
    return {id_ for id_, known in then.items() if id_ in now and now[id_] != known}


def edited_since(target: Target, embeddings: str) -> tuple[str | None, set[str]]:
    """The field of the texts whose embeddings a field holds, and which were edited since.

    Those that were reduced are of what they were reduced from. Of images there are none.
    """
    run = computing_run(target, embeddings)
    text_field = run.facts.parameters.get("text_field") if run is not None else None
    if run is None or text_field is None:
        return None, set()
    then = stored_hashes(target.dataset, run)
    if not then:
        return text_field, set()
    try:
        now = hashes_of(read_texts(target, text_field))
    except UserError:  # the field no longer exists, that the run of the embeddings names
        return text_field, set()
    return text_field, edited_texts(now, then)
