"""Embeddings as they come, batch by batch, into their field, with reasons for those that fail."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..storage.background import BackgroundWriter
from ..storage.target import Item, Target
from .progress import Progress

if TYPE_CHECKING:
    from ..embedding.pipeline import EmbeddedBatch

# Failures of one kind that a result names as examples.
MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Embedded:
    """What has been embedded.

    Attributes:
        total, wanted: how many images or patches there are, and were to be embedded
        failures: reasons with their counts and examples, the most frequent first
        small: patches that are too small to say much
        notes: on how images were read, once for each image or patch
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


def wanted_ids(target: Target, field: str, overwrite: bool) -> set[str]:
    """What has no embedding yet, or all."""
    wanted = set(target.ids())
    return wanted if overwrite else wanted - set(target.ids(having=field))


def store_embeddings(
    target: Target,
    field: str,
    items: list[Item],
    batches: Iterable["EmbeddedBatch"],
    progress: Progress,
) -> Embedded:
    """Stores embeddings, and reasons where there are none, as they come.

    Args:
        target: the samples or patches
        field: the field of the embeddings
        items: what is embedded
        batches: of the items, computed when they are asked for
        progress: where it is reported

    Raises:
        UserError: if nothing could be embedded
    """
    started, total = time.monotonic(), len(target.ids())
    wanted = sum(len(item.ids) for item in items)
    with progress.stage("Embedding", wanted, target.noun) as advance:
        reasons, small, notes = _store(target, field, batches, advance)
    failures = failures_of(reasons, items)
    if wanted and len(reasons) == wanted == total:
        worst = failures[0]
        raise UserError(
            f"None of the {total:,} {target.noun} could be embedded. Most frequent reason "
            f"({worst['count']:,} times): {worst['reason']}, for example {worst['examples'][0]}"
        )
    return Embedded(total, wanted, failures, small, notes, time.monotonic() - started)


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


def failures_of(reasons: dict[str, str], items: list[Item]) -> list[dict[str, Any]]:
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
