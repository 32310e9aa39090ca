"""Label a dataset with few labels: choose what to label, then let the rest be suggested.

    python docs/examples/choose_what_to_label.py DATASET EMBEDDINGS 100

Prints the ids of the samples to label first. When they have labels, ``suggest`` labels the rest
where it is certain enough, in a field of its own, and the next samples are chosen where it is not.
"""

import sys

import fiftyone as fo
import fiftyone.operators as foo


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def choose(dataset: fo.Dataset, embeddings: str, num_samples: int, labels: str | None = None):
    """The ids of the samples to label next, most important first.

    Args:
        dataset: a dataset or view
        embeddings: the field of the embeddings
        num_samples: how many
        labels: the field of the labels so far; what it holds is not chosen again
    """
    operator("select_samples")(
        dataset, embeddings=embeddings, num_samples=num_samples, start_from=labels
    )
    return dataset.load_saved_view("selection: selected").values("id")


def suggest(dataset: fo.Dataset, embeddings: str, label_field: str, precision: float = 0.95):
    """Suggested labels of samples without one, by id; only those that are certain enough."""
    result = operator("suggest_labels")(
        dataset, embeddings=embeddings, label_field=label_field, precision=precision
    )
    print(operator("suggest_labels").summary(result))
    if not result["suggested"]:
        return {}
    accepted = dataset.load_saved_view("suggestions: accepted")
    return dict(zip(*accepted.values(["id", "suggestions_label.label"])))


if __name__ == "__main__":
    given = fo.load_dataset(sys.argv[1])
    print("\n".join(choose(given, sys.argv[2], int(sys.argv[3]))))
