"""Label issues of samples with several labels each."""

from typing import Any

import numpy as np

from ..storage.labels import read_label_sets
from ..storage.reviews import Reviews
from .found_issues import FoundIssues, numbers
from .inputs import Inputs
from .progress import counted


def evaluate_sets(inputs: Inputs, reviews: Reviews) -> FoundIssues:
    """Issues of samples with several labels."""
    from ..analysis.label_issues import find_multilabel_issues

    sets = read_label_sets(inputs.target, inputs.required_label_field, inputs.ids)
    names = tuple(sorted(set().union(*filter(None, sets))))
    places = {name: place for place, name in enumerate(names)}
    has = np.zeros((len(sets), len(names)), bool)
    for row, labels in enumerate(sets):
        for label in labels or ():
            has[row, places[label]] = True
    skipped = np.array([labels is None for labels in sets])
    inputs.progress.say(f"Evaluating {counted(len(names), 'label')} each")
    found = find_multilabel_issues(
        has, inputs.rows, inputs.graph, inputs.groups, skipped, inputs.seed
    )
    ids = inputs.ids
    evaluated = np.flatnonzero(~skipped).tolist()
    is_flagged = found.flagged & ~reviews.settled(ids, inputs.stored_labels)
    flagged = np.flatnonzero(is_flagged).tolist()

    def chosen(which: np.ndarray) -> dict[str, list[str]]:
        rows = {row: [names[c] for c in np.flatnonzero(which[row])] for row in flagged}
        return {ids[row]: labels for row, labels in rows.items() if labels}

    result = {
        "flagged": len(flagged),
        "expected_precision": None,
        "precision_range": None,
        "classes": [
            {
                "label": name,
                "count": int(has[:, place].sum()),
                "flagged": int(found.wrong[flagged, place].sum()),
                "missing": int(found.missing[flagged, place].sum()),
            }
            for name, place in places.items()
        ],
        "noise": [],
        "overlaps": [],
        "shared": [],
        "warnings": [],
    }
    values: dict[str, dict[str, Any]] = {
        "quality": numbers(ids, found.quality, evaluated),
        "flagged": {ids[row]: bool(is_flagged[row]) for row in evaluated},
        "wrong": chosen(found.wrong),
        "missing": chosen(found.missing),
    }
    return FoundIssues(
        result=result,
        values=values,
        results={"class_names": list(names)},
        unlabeled=int(skipped.sum()),
    )
