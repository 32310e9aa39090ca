"""Properties of images that go with errors or with a label, on sets with known truth."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.properties import (
    LEVELS,
    find_correlated,
    find_slices,
    image_properties,
)
from fiftyone_embedding_quality.pictures.measures import measure_files
from PIL import Image


def drawn(seed, num_rows=600, classes=6, wrong=0.1):
    """Labels, predictions that miss a share of them, and properties that do not matter."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, num_rows)
    missed = random.random(num_rows) < wrong
    predicted = np.where(missed, random.integers(0, classes, num_rows), labels)
    properties = {name: random.normal(size=num_rows) for name in LEVELS}
    fields = {"tray": [f"tray {number}" for number in random.integers(0, 8, num_rows)]}
    return labels, predicted, properties, fields


def test_sets_without_a_slice_raise_no_alarm():
    """In 5 % of sets at most, also where values are tied or missing."""
    alarms = 0
    for seed in range(30):
        labels, predicted, properties, fields = drawn(seed)
        properties["size"] = np.round(properties["size"])
        properties["warmth"][::3] = np.nan
        alarms += bool(find_slices(properties, fields, labels, predicted, 6))
        assert find_correlated(properties, fields, labels, 6) == []
    assert alarms <= 4


@pytest.mark.parametrize("of", ["label", "prediction", "all"])
def test_a_planted_slice_is_found_and_named(of):
    labels, predicted, properties, fields = drawn(3, wrong=0.02)
    lowest = np.argsort(properties["brightness"])
    kind = np.full(600, 2) if of == "all" else {"label": labels, "prediction": predicted}[of]
    dark = lowest[kind[lowest] == 2][:18]
    if of == "label":
        predicted[dark] = 4
    elif of == "prediction":
        labels[dark] = np.arange(18) % 2 + 3
    else:
        predicted[dark] = (labels[dark] + 1 + np.arange(18) % 5) % 6
    found = find_slices(properties, fields, labels, predicted, 6)
    first = found[0]
    assert (first.scope, first.level, first.prop) == (of, "dark", "brightness")
    assert first.label == (-1 if of == "all" else 2)
    assert np.isin(dark, first.rows).mean() >= 0.75
    # Those that disagree stand first, and the numbers are those of the rows.
    wrong = (labels != predicted)[first.rows]
    assert wrong.sum() == first.errors and (np.diff(wrong.astype(int)) <= 0).all()
    assert first.share == pytest.approx(wrong.mean()) and first.rest < first.share / 2
    order = np.random.default_rng(0).permutation(600)
    again = find_slices(
        {name: values[order] for name, values in properties.items()},
        {"tray": [fields["tray"][place] for place in order]},
        labels[order],
        predicted[order],
        6,
    )
    assert [(one.level, one.label, one.p_value) for one in again] == [
        (one.level, one.label, one.p_value) for one in found
    ]


def test_a_source_with_errors_is_found_and_copies_count_once():
    labels, predicted, _, fields = drawn(5, wrong=0.02)
    of_tray = np.flatnonzero(np.array(fields["tray"]) == "tray 3")[:25]
    predicted[of_tray] = (labels[of_tray] + 1) % 6
    (found,) = find_slices({}, fields, labels, predicted, 6)
    assert (found.prop, found.level, found.scope) == ("tray", "tray 3", "all")
    assert np.isnan(found.limit)
    groups = np.full(600, -1)
    groups[of_tray] = 0
    assert find_slices({}, fields, labels, predicted, 6, groups) == []


def test_a_label_that_a_property_tells():
    labels, _, properties, fields = drawn(9)
    properties["size"][labels == 1] += 5
    fields["tray"] = ["red" if label == 4 else text for label, text in zip(labels, fields["tray"])]
    found = find_correlated(properties, fields, labels, 6)
    assert {(one.label, one.prop, one.level) for one in found} == {
        (1, "size", "large"),
        (4, "tray", "red"),
    }
    assert all(one.auc >= 0.99 for one in found)


def test_properties_of_files(tmp_path):
    """Against what they are called: each image is the end of the property that names it."""
    random = np.random.default_rng(1)
    plain = random.integers(60, 200, (60, 80, 3)).astype(np.uint8)
    images = {
        "dark": plain // 4,
        "bright": 255 - plain // 8,
        "gray": plain[..., :1].repeat(3, axis=2),
        "reddish": (plain * [1, 0.5, 0.3]).astype(np.uint8),
        "bluish": (plain * [0.3, 0.5, 1]).astype(np.uint8),
        "small": plain[:20, :27],
        "wide": plain[:30],
        "tall": plain[:, :30],
    }
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / f"{name}.png") for name in images] + [str(tmp_path / "lost.png")]
    found = image_properties(measure_files(paths))
    named = {
        level: (prop, end) for prop, levels in LEVELS.items() for end, level in enumerate(levels)
    }
    for place, name in enumerate(images):
        prop, end = named[name]
        values = found[prop][:-1]
        assert place == (values.argmax() if end else values.argmin()), name
    assert all(np.isnan(values[-1]) for values in found.values())
