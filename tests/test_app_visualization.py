"""A map in FiftyOne's App: computed by the form, shown, colored and lassoed in its panel."""

import fiftyone as fo
import numpy as np
import pytest
from playwright.sync_api import expect

LABEL = "Quality: compute visualization"


def _two_clusters(number: int) -> list[np.ndarray]:
    random = np.random.default_rng(51)
    centers = np.where(np.arange(number)[:, None] % 2, 4.0, -4.0)
    return list((centers + random.normal(size=(number, 16))).astype(np.float32))


@pytest.fixture
def pictured(dataset, digit_files):
    """60 digits, with vectors in two clusters by parity, on the samples and on an object each."""
    vectors = _two_clusters(60)
    dataset.add_samples(
        [
            fo.Sample(
                path,
                ground_truth=fo.Classification(label="odd" if index % 2 else "even"),
                objects=fo.Detections(
                    detections=[
                        fo.Detection(label="ink", bounding_box=[0.1, 0.1, 0.8, 0.8], vectors=vector)
                    ]
                ),
                vectors=vector,
            )
            for index, ((path, _), vector) in enumerate(zip(digit_files, vectors))
        ]
    )
    dataset.add_sample_field("objects.detections.vectors", fo.VectorField)
    dataset.persistent = True
    return dataset


@pytest.mark.parametrize("kind", ["samples", "patches"])
def test_compute_show_color_lasso(app, pictured, kind):
    app.open(pictured.name)
    form = app.open_operator(LABEL)
    if kind == "patches":
        form.get_by_role("combobox").first.click()
        app.page.get_by_role("option", name="Patches in objects").click()
    expect(form.get_by_text(f"60 of 60 {kind} have embeddings and will be shown")).to_be_visible()
    form.get_by_text("More options").click()
    expect(form.get_by_text("Minimum distance")).to_be_visible()
    app.screenshot(f"visualization-form-{kind}")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("trustworthiness")).to_be_visible()
    app.screenshot(f"visualization-result-{kind}")
    app.page.keyboard.press("Escape")

    key = "vectors_umap" if kind == "samples" else "objects_detections_vectors_umap"
    app.open_embeddings(key)
    app.color_by("ground_truth.label" if kind == "samples" else "objects.detections.label")
    app.screenshot(f"visualization-panel-{kind}")
    pictured.reload()
    points = pictured.load_brain_results(key).points
    app.lasso_left_half()
    app.screenshot(f"visualization-lasso-{kind}")
    middle = (points[:, 0].min() + points[:, 0].max()) / 2
    count = int((points[:, 0] < middle).sum())
    assert 0 < count < 60
    shown = app.page.locator("[data-cy=entry-counts]").first
    expect(shown).to_contain_text(str(count))
