"""The check ``find_clusters``: clusters and topics with names, and a description of each."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.findings import Column, Values, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import FILES as READ_FILES
from ..storage.fingerprints import GROUPS, SLICES, texts_fingerprint
from ..storage.runs import Run, embeddings_run
from ..storage.target import Target
from .contract import EMBEDDINGS, Check
from .image_slices import image_slices
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.clusters import Clusters

# A word is the name of a cluster if it fits this share of it. On Caltech-101 the words above are
# right, or the nearest that ImageNet has, those below mostly wrong.
MIN_FIT = 0.4

# The labels with a quarter of a cluster are its name if they have this share of it together.
MIN_SHARE = 0.5

# A class is reported to fall apart into clusters that have at least this share of it each.
MIN_PART = 0.2

# Clusters, labels of a cluster and classes that a result lists.
MAX_LISTED, MAX_LABELS = 200, 3

# Clusters of which a topic takes its name.
NAMED = 2

LABEL = {"embedded_doc_type": fo.Classification}

CLUSTERS = Check(
    name="find_clusters",
    needs=frozenset({EMBEDDINGS}),
    columns=(
        Column("cluster", fo.EmbeddedDocumentField, "The cluster of similar samples", LABEL),
        Column(
            "topic", fo.EmbeddedDocumentField, "The topic, which groups similar clusters", LABEL
        ),
        Column("rank", fo.IntField, "The rank in its cluster, 1 for the most typical"),
    ),
    views={
        "groups": "One group per cluster, most typical first",
        "worse": "Clusters with worse held-out predictions than the rest",
    },
    count=("num_clusters", "clusters"),
)


def columns_of(target: Target) -> tuple[Column, ...]:
    """The columns; patches have the names as texts."""
    if target.patches_field is None:
        return CLUSTERS.columns
    return tuple(
        replace(column, field_type=fo.StringField, options={})
        if column.options is LABEL
        else column
        for column in CLUSTERS.columns
    )


def checked_names(names: str | Sequence[str]) -> str | list[str]:
    """``"auto"``, ``"labels"`` or words.

    Raises:
        UserError: if it is something else
    """
    if names in ("auto", "labels"):
        return names
    words = [names] if isinstance(names, str) else list(names)
    words = [word.strip() for word in words if isinstance(word, str)]
    if isinstance(names, str) or not all(words) or len(words) < 2:
        raise UserError(f"names={names!r} must be 'auto', 'labels', or a list of words")
    return list(dict.fromkeys(words))


def find_clusters(
    inputs: Inputs,
    *,
    names: str | Sequence[str] = "auto",
    min_size: int = 5,
    check_pictures: bool = True,
    by: str | None = None,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Finds clusters among the inputs, stores them, and returns their description.

    Args:
        inputs: what is clustered; with labels, clusters and properties are related to these
        names, min_size, check_pictures, by, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis import clusters

    started = time.monotonic()
    target = inputs.target
    names = checked_names(names)
    if not 2 <= min_size <= 1_000_000:
        raise UserError(f"min_size={min_size} must be at least 2")
    if names == "labels" and inputs.label_field is None:
        raise UserError("names='labels' needs label_field=")
    if by is not None and inputs.label_field in (None, by):
        raise UserError(f"by={by!r} is compared with labels: pass another field as label_field=")
    # Embeddings of texts say nothing of images, and without labels there are no errors.
    check_pictures &= inputs.text_field is None and inputs.label_field is not None
    run = plan_findings(target, CLUSTERS.name, run_key, columns_of(target), [*CLUSTERS.views])
    graph = inputs.graph
    inputs.progress.say("Clustering")
    found = clusters.find_clusters(
        inputs.rows, graph, inputs.groups, min_size=min_size, seed=inputs.seed
    )
    inputs.progress.say("Naming the clusters")
    called, fits, named_by = _names(inputs, found, names)
    topics = _topic_names(found, called)
    rows = _descriptions(inputs, found, called, topics, fits)
    accuracy = _accuracy(inputs, found)
    worse = []
    for number, row in enumerate(rows):
        row |= accuracy[number] if accuracy else {}
        if row.get("worse"):
            worse.append(row["cluster"])
    sliced = image_slices(inputs, check_pictures, by)
    parameters = {"names": names, "min_size": min_size, "check_pictures": check_pictures, "by": by}
    facts = inputs.facts(parameters, *((READ_FILES, GROUPS) if check_pictures else (GROUPS,)))
    read = facts.inputs
    if by is not None and sliced.values is not None:
        read = {**read, f"{SLICES} {by}": texts_fingerprint(inputs.ids, sliced.values)}
    facts = replace(
        facts,
        inputs=read,
        skipped={**facts.skipped, **sliced.skipped},
        seconds=round(time.monotonic() - started, 2),
        special={
            "num_clusters": found.num_clusters,
            "num_topics": len(topics),
            "unclustered": int((found.cluster < 0).sum()),
            "named_by": named_by,
            "clusters": rows[:MAX_LISTED],
            "subclasses": _subclasses(inputs, found, called),
            "slices": sliced.slices,
            "correlated": sliced.correlated,
            "notes": sliced.notes,
            "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        },
    )
    inputs.progress.say("Storing the clusters")
    saved = store_findings(
        target,
        run,
        columns_of(target),
        lambda: _values(inputs, found, called, topics),
        lambda: {**_views(target, run, worse), **sliced.views(inputs)},
        facts,
        results={"ids": " ".join(inputs.ids)},
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def _names(
    inputs: Inputs, found: "Clusters", names: str | list[str]
) -> tuple[list[str], list[float | None], str]:
    """The name of each cluster, how well it fits, and what the names were taken from."""
    from ..analysis.clusters import name_clusters

    called: list[str | None] = [None] * found.num_clusters
    fits: list[float | None] = [None] * found.num_clusters
    sources = []
    vocabulary = None if names == "labels" else _vocabulary(inputs, names)
    if vocabulary is not None:
        vectors = inputs.rows if vocabulary.of_units else inputs.vectors.matrix
        best = name_clusters(
            vectors, found.cluster, found.num_clusters, vocabulary.weights, vocabulary.bias
        )
        for number, (word, fit) in enumerate(zip(best.word.tolist(), best.fit.tolist())):
            if fit >= MIN_FIT:
                called[number], fits[number] = vocabulary.words[word], round(fit, 3)
        sources.append("words of the model")
    if inputs.label_field is not None:
        for number, counts in enumerate(_label_counts(inputs, found)):
            size = max(int((found.cluster == number).sum()), 1)
            most = [(label, count) for label, count in counts.most_common(2) if count >= size / 4]
            share = sum(count for _, count in most) / size
            if called[number] is None and share >= MIN_SHARE:
                called[number] = ", ".join(label for label, _ in most)
                fits[number] = round(share, 3)
        sources.append("labels")
    seen: Counter[str] = Counter()
    distinct = []
    for number, name in enumerate(called):
        name = name or f"unnamed {number + 1}"
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct, fits, " and ".join(sources) or "nothing"


def _vocabulary(inputs: Inputs, names: str | list[str]) -> Any:
    """The words of the model that computed the embeddings; None if it is not known or has none.

    Raises:
        UserError: if words were given and cannot be compared with these embeddings
    """
    from ..embedding.vocabulary import read_vocabulary

    words = names if isinstance(names, list) else None
    run = embeddings_run(inputs.target, inputs.required_embeddings)
    model = run.facts.parameters.get("model") if run is not None else None
    if run is None or model is None:
        if words is not None:
            raise UserError(
                f"names= needs the text encoder, and which model computed "
                f"{inputs.embeddings!r} is not known"
            )
        return None
    try:
        return read_vocabulary(model, run.facts.parameters.get("weights"), words)
    except UserError:
        if words is not None:
            raise
        return None  # its weights are out of reach: the clusters are worth having without


def _label_counts(inputs: Inputs, found: "Clusters") -> list[Counter]:
    """How often each label is in each cluster; of equally frequent ones first by name."""
    counts: list[Counter] = [Counter() for _ in range(found.num_clusters)]
    for number, label in zip(found.cluster.tolist(), inputs.labels):
        if number >= 0 and label is not None:
            counts[number][label] += 1
    return [Counter(dict(sorted(one.items()))) for one in counts]


def _topic_names(found: "Clusters", called: list[str]) -> list[str]:
    """The name of each topic: those of its largest clusters."""
    topics = []
    for topic in range(int(found.topic.max(initial=-1)) + 1):
        members = np.flatnonzero(found.topic == topic)
        text = ", ".join(called[number] for number in members[:NAMED])
        topics.append(text + (f" and {len(members) - NAMED} more" if len(members) > NAMED else ""))
    return topics


def _descriptions(
    inputs: Inputs,
    found: "Clusters",
    called: list[str],
    topics: list[str],
    fits: list[float | None],
) -> list[dict[str, Any]]:
    """The description of each cluster, the largest first."""
    sizes = np.bincount(found.cluster[found.cluster >= 0], minlength=found.num_clusters)
    rows = [
        {
            "cluster": name,
            "topic": topics[topic],
            "count": int(size),
            "fit": fit,
            "cohesion": round(float(cohesion), 4),
        }
        for name, topic, size, fit, cohesion in zip(
            called, found.topic.tolist(), sizes, fits, found.cohesion
        )
    ]
    if inputs.label_field is None:
        return rows
    for row, counts in zip(rows, _label_counts(inputs, found)):
        labeled = counts.total()
        row["labels"] = [
            {"label": label, "share": round(count / labeled, 4)}
            for label, count in counts.most_common(MAX_LABELS)
        ]
        row["purity"] = round(max(counts.values()) / labeled, 4) if labeled else None
        row["unlabeled"] = row["count"] - labeled
    return rows


def _accuracy(inputs: Inputs, found: "Clusters") -> list[dict[str, Any]] | None:
    """How well held-out predictions do in each cluster; None without classes."""
    from ..analysis.clusters import cluster_accuracy

    if inputs.label_field is None or len(inputs.class_names) < 2 or not found.num_clusters:
        return None
    predicted = inputs.evidence.probabilities.argmax(axis=1)
    measured = cluster_accuracy(found.cluster, found.num_clusters, inputs.codes, predicted)

    def rounded(value: float) -> float | None:
        return None if np.isnan(value) else round(float(value), 4)

    return [
        {
            "accuracy": rounded(measured.share[number]),
            "accuracy_low": rounded(measured.low[number]),
            "accuracy_high": rounded(measured.high[number]),
            "worse": bool(measured.worse[number]),
        }
        for number in range(found.num_clusters)
    ]


def _subclasses(inputs: Inputs, found: "Clusters", called: list[str]) -> list[dict[str, Any]]:
    """Classes of which several clusters have a large part each."""
    if inputs.label_field is None:
        return []
    totals = Counter(label for label in inputs.labels if label is not None)
    parts: dict[str, list[dict[str, Any]]] = {}
    for number, counts in enumerate(_label_counts(inputs, found)):
        for label, count in counts.items():
            # A cluster that is mostly of another class is a confusion, and no part of this one.
            if count >= MIN_PART * totals[label] and 2 * count >= counts.total():
                parts.setdefault(label, []).append({"cluster": called[number], "count": count})
    split = [(label, some) for label, some in sorted(parts.items()) if len(some) > 1]
    return [{"label": label, "clusters": some} for label, some in split[:MAX_LISTED]]


def _values(inputs: Inputs, found: "Clusters", called: list[str], topics: list[str]) -> Values:
    inside = np.flatnonzero(found.cluster >= 0).tolist()
    of_patches = inputs.target.patches_field is not None

    def named(texts: list[str], numbers: np.ndarray) -> dict[str, Any]:
        labels = {inputs.ids[row]: texts[numbers[row]] for row in inside}
        if of_patches:
            return dict(labels)
        return {id_: fo.Classification(label=text) for id_, text in labels.items()}

    topic = np.full(len(found.cluster), -1)
    topic[inside] = found.topic[found.cluster[inside]]
    return {
        "cluster": named(called, found.cluster),
        "topic": named(topics, topic),
        "rank": {inputs.ids[row]: int(found.rank[row]) + 1 for row in inside},
    }


def _views(target: Target, run: Run, worse: list[str]) -> Views:
    name, rank = f"{run.key}_cluster", f"{run.key}_rank"
    path = name if target.patches_field else f"{name}.label"
    views = {}
    clustered = matching_view(target, F(path) != None, [(path, 1), (rank, 1)])  # noqa: E711
    if target.patches_field is None:
        clustered = clustered.group_by(path, order_by=rank)
    views["groups"] = (clustered, CLUSTERS.views["groups"])
    if worse:
        condition = F(path).is_in(worse)
        view = matching_view(target, condition, [(path, 1), (rank, 1)])
        views["worse"] = (view, CLUSTERS.views["worse"])
    return views
