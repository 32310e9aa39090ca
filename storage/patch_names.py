"""What patches are called: by the ids of their labels, and their samples where these are shared."""

from collections import Counter
from collections.abc import Iterator

# Two patches of different samples may have the same id (labels that were copied with their ids);
# such a patch is called by its id and its sample.
SEPARATOR = "@"


class PatchNames:
    """What patches are called: by their ids, and their samples where an id is not unique."""

    def __init__(self, labels_of_samples: Iterator[tuple[str, list[str | None]]]) -> None:
        pairs = Counter(
            (sample_id, label_id)
            for sample_id, label_ids in labels_of_samples
            for label_id in label_ids
        )
        samples = Counter(label_id for _, label_id in pairs)
        self._shared = {label_id for label_id, count in samples.items() if count > 1}
        self._ambiguous = {pair for pair, count in pairs.items() if count > 1 and pair[1]}

    def name_of(self, sample_id: str, label_id: str) -> str:
        return f"{label_id}{SEPARATOR}{sample_id}" if label_id in self._shared else label_id

    def is_ambiguous(self, sample_id: str, label_id: str | None) -> bool:
        return bool(self._ambiguous) and (sample_id, label_id) in self._ambiguous
