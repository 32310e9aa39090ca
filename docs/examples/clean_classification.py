"""Clean a classification dataset: audit it, look at the evidence, correct what is certain.

    python docs/examples/clean_classification.py DATASET LABEL_FIELD

Labels are corrected only where classifier and neighbors agree on another one; the rest is left
for a review in the App. The originals are kept, and one call restores them.
"""

import sys

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone import ViewField as F


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def audit(dataset: fo.Dataset, label_field: str, **options) -> dict:
    """Runs every check that fits and prints what to look at first."""
    result = operator("audit")(dataset, label_field=label_field, **options)
    for finding in result["findings"]:
        print(f"{finding['what']}: {finding['how_sure']} ({finding['view']})")
    return result


def certain_flags(dataset: fo.Dataset) -> fo.DatasetView:
    """Flagged labels for which the classifier and the neighbors suggest the same other label."""
    return dataset.load_saved_view("label_issues: flagged").match(
        (F("label_issues_suggested.label") == F("label_issues_probe.label"))
        & (F("label_issues_suggested.label") == F("label_issues_neighbors.label"))
    )


def correct(dataset: fo.Dataset) -> dict:
    """Accepts these suggestions, and updates what they made out of date."""
    result = operator("review_label_issues")(certain_flags(dataset), decision="accept")
    operator("update_audit")(dataset)
    return result


def restore(dataset: fo.Dataset) -> dict:
    """Restores the labels from before the reviews."""
    return operator("review_label_issues")(dataset, decision="undo")


if __name__ == "__main__":
    given = fo.load_dataset(sys.argv[1])
    audit(given, sys.argv[2])
    print(f"{len(certain_flags(given))} labels would be corrected; call correct() to do so")
