"""The panels of reviews at scale: what each event takes on the server.

    python benchmarks/reviews.py [--samples 100000] [--classes 1000] [--flags 20000]

The samples have no files, and the flags are drawn at random: what is timed is reading and writing,
not finding. A decision is one event that writes and opens the next sample, and one that draws it;
what the browser adds is not in it. Two minutes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import conftest  # noqa: F401  first: sets up a database and plugins of its own
import fiftyone as fo
import fiftyone.core.odm as odm
import fiftyone.operators as foo
import numpy as np
from common import print_row
from fiftyone import ViewField as F
from fiftyone.operators.executor import ExecutionContext, Executor
from fiftyone_embedding_quality.checks.label_issue_columns import columns_of
from fiftyone_embedding_quality.storage.findings import (
    matching_view,
    plan_findings,
    store_findings,
)
from fiftyone_embedding_quality.storage.runs import RunFacts
from fiftyone_embedding_quality.storage.targets import resolve_target

VIEW = "label_issues: flagged"
WHY, HOME = "@embedding/quality/why_this_sample", "@embedding/quality/dataset_quality"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--flags", type=int, default=20_000)
    parser.add_argument("--decisions", type=int, default=10)
    given = parser.parse_args()
    dataset = flagged_dataset(given.samples, given.classes, given.flags)
    try:
        ids = dataset.load_saved_view(VIEW).limit(given.decisions + 1).values("id")
        print_row("event", "seconds")
        for name, panel in (("home", HOME), ("why this sample", WHY)):
            print_row(f"{name} opens", timed(partial(event, dataset, panel, "on_load", ids[0])))
        open_one = {"state": {"threshold_of": "label_issues"}}
        slides = [
            timed(partial(event, dataset, HOME, "on_slide", ids[0], open_one, value=10 * place))
            for place in range(1, given.decisions)
        ]
        print_row("first move of a threshold", slides[0])
        print_row("further moves", statistics.median(slides[1:]))
        writes, draws = [], []
        for now, following in pairwise(ids):
            decision = {"id": now, "run_key": "label_issues", "decision": "keep"}
            writes.append(timed(partial(event, dataset, WHY, "on_decide", now, **decision)))
            draw = partial(event, dataset, WHY, "on_change_current_sample", following)
            draws.append(timed(draw))
        print_row("decision", statistics.median(writes))
        print_row("next one drawn", statistics.median(draws))
    finally:
        odm.drop_database()


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def event(
    dataset: fo.Dataset,
    panel: str,
    method: str,
    open_sample: str,
    state: dict[str, Any] | None = None,
    **params: Any,
) -> None:
    """One event of a panel, as the App's server runs it."""
    request = {
        "dataset_name": dataset.name,
        "current_sample": open_sample,
        "view_name": VIEW,
        "params": {
            "panel_id": "benchmark",
            "__method__": method,
            "panel_state": state or {},
            **params,
        },
    }
    context = ExecutionContext(request, executor=Executor(), operator_uri=panel)
    foo.get_operator(panel).execute(context)


def flagged_dataset(number: int, classes: int, flags: int) -> fo.Dataset:
    """Samples with labels and vectors, some flagged at random."""
    random = np.random.default_rng(51)
    dataset = fo.Dataset(persistent=True)
    vector = random.normal(size=512).astype(np.float32)
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.jpg",
                ground_truth=fo.Classification(label=f"class {index % classes}"),
                vec=vector,
            )
            for index in range(number)
        ]
    )
    target = resolve_target(dataset)
    columns = columns_of(target)
    run = plan_findings(target, "find_label_issues", "label_issues", columns, ["flagged"])
    ids = target.ids()
    scores = random.random(number).round(4).tolist()
    flagged = set(random.choice(number, flags, replace=False).tolist())
    suggestion = fo.Classification(label="class 7", confidence=0.8)
    chosen = [row for row in range(number) if row in flagged]
    values = {
        "quality": dict(zip(ids, scores)),
        "flagged": {id_: row in flagged for row, id_ in enumerate(ids)},
        "suggested": {ids[row]: suggestion for row in chosen},
        "probe": {ids[row]: suggestion for row in chosen},
        "neighbors": {},
        "against": {
            ids[row]: [ids[(row + step) % number] for step in range(1, 5)] for row in chosen
        },
    }
    counts = [
        {"label": f"class {one}", "count": number // classes, "flagged": flags // classes}
        for one in range(classes)
    ]
    facts = RunFacts(
        parameters={"embeddings": "vec", "label_field": "ground_truth", "seed": 51},
        read=number,
        evaluated=number,
        special={"flagged": flags, "expected_precision": 0.6, "classes": counts},
    )
    condition = F("label_issues_flagged") == True  # noqa: E712
    order = [("label_issues_quality", 1)]
    store_findings(
        target,
        run,
        columns,
        values,
        lambda: {"flagged": (matching_view(target, condition, order), "Flagged at random")},
        facts,
        results={"ids": " ".join(ids)},
    )
    return dataset


if __name__ == "__main__":
    main()
