"""Clusters and comparisons in FiftyOne's App: their forms, their results, and the colored plot."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from playwright.sync_api import expect
from sklearn.datasets import load_digits


@pytest.fixture
def drawn_digits(dataset, digit_files):
    """200 digits with their pixels as embeddings and a plot of these."""
    pixels = load_digits().data[:200].astype(np.float32)
    dataset.add_samples(
        [
            fo.Sample(path, figure=fo.Classification(label=f"figure {label}"), ink=row)
            for (path, label), row in zip(digit_files, pixels)
        ]
    )
    dataset.persistent = True
    dataset.save_view("first hundred", dataset.limit(100))
    foo.get_operator("@embedding/quality/compute_visualization")(
        dataset, embeddings="ink", method="pca"
    )
    return dataset


def test_clusters_color_the_plot_and_group_the_grid(app, drawn_digits):
    app.open(drawn_digits.name)
    form = app.open_operator("Quality: find clusters")
    expect(
        form.get_by_text("200 of 200 samples have embeddings and will be evaluated")
    ).to_be_visible()
    app.screenshot("clusters-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("color the visualization by")).to_be_visible()
    app.screenshot("clusters-result")
    drawn_digits.reload()
    names = drawn_digits.distinct("clusters_cluster.label")
    assert any(name.startswith("figure") for name in names)
    show = app.dialog.get_by_role("button", name="Show clusters: groups")
    expect(show).to_be_visible()
    app.page.keyboard.press("Escape")
    app.open_embeddings("ink_pca")
    app.color_by("clusters_cluster.label")
    app.screenshot("clusters-plot")
    app.open(drawn_digits.name)
    app.open_saved_view("clusters-groups")
    app.expect_count(f"{len(names)} groups")
    app.screenshot("clusters-groups")


def test_a_comparison_with_a_saved_view(app, drawn_digits):
    app.open(drawn_digits.name)
    form = app.open_operator("Quality: compare datasets")
    expect(form.get_by_text("Compare with")).to_be_visible()
    app.screenshot("comparison-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("missing here")).to_be_visible()
    app.screenshot("comparison-result")
    drawn_digits.reload()
    assert drawn_digits.has_field("comparison_novelty")
