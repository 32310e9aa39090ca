"""``compute_embeddings`` in FiftyOne's App, in a browser, as a user meets it."""

import fiftyone as fo
import numpy as np
from playwright.sync_api import expect

LABEL = "Quality: compute embeddings"


def test_form_run_result_and_error(app, digits):
    digits.persistent = True
    digits.set_values(
        "objects",
        [
            fo.Detections(detections=[fo.Detection(label="ink", bounding_box=[0.2, 0.1, 0.5, 0.8])])
            for _ in range(len(digits))
        ],
    )
    sketches = np.random.default_rng(51).normal(size=(len(digits), 12)).astype(np.float32)
    digits.set_values("sketch", list(sketches))
    digits.add_sample(fo.Sample("/nowhere/picture.png"))
    app.open(digits.name)

    form = app.open_operator(LABEL)
    expect(form.get_by_text("21 of 21 samples will be embedded")).to_be_visible()
    app.screenshot("compute-embeddings-form")
    app.choose(form, "cnn")
    expect(form.get_by_text("reasons for missing embeddings go to cnn_error")).to_be_visible()
    app.screenshot("compute-embeddings-form-cnn")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("images embedded with")).to_be_visible()
    expect(app.dialog.get_by_text("could not be embedded")).to_be_visible()
    app.screenshot("compute-embeddings-result")
    digits.reload()
    assert len(digits.exists("cnn")) == 20
    app.page.keyboard.press("Escape")

    # A second run has nothing to compute and says so beforehand.
    form = app.open_operator(LABEL)
    app.choose(form, "cnn")
    expect(form.get_by_text("1 of 21 samples will be embedded")).to_be_visible()

    # Wrong input is refused in the form, in words.
    field = form.get_by_placeholder("cnn", exact=True)
    field.fill("ground_truth")
    expect(form.get_by_text("already has a field 'ground_truth'").first).to_be_visible()
    expect(form.get_by_role("button", name="Execute")).to_be_disabled()
    app.screenshot("compute-embeddings-form-error")
    field.fill("patches")

    # The objects on the samples, chosen in the form.
    form.get_by_role("combobox").first.click()
    app.page.get_by_role("option", name="Patches in objects").click()
    expect(form.get_by_text("20 of 20 patches will be embedded")).to_be_visible()
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("patches embedded with")).to_be_visible()
    digits.reload()
    assert digits.count("objects.detections.patches") == 20
    app.page.keyboard.press("Escape")
    _describe(app, digits)


def _describe(app, digits):
    """What made embeddings that come from elsewhere is told, and FiftyOne's search of them."""
    form = app.open_operator("Quality: describe embeddings")
    expect(form.get_by_text("20 embeddings in sketch will be read and not changed")).to_be_visible()
    form.get_by_role("textbox").first.fill("pencil 2")
    form.get_by_label("Search by image").first.click()
    expect(form.get_by_placeholder("sketch_similarity")).to_be_visible()
    app.screenshot("describe-embeddings-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("computed elsewhere with")).to_be_visible()
    expect(app.dialog.get_by_text("search by image in the App")).to_be_visible()
    app.screenshot("describe-embeddings-result")
    digits.reload()
    assert digits.has_run("sketch") and digits.list_brain_runs() == ["sketch_similarity"]


def test_an_error_of_the_work_is_shown_in_words(app, dataset):
    dataset.persistent = True
    dataset.add_samples([fo.Sample(f"/nowhere/{index}.png") for index in range(3)])
    app.open(dataset.name)
    form = app.open_operator(LABEL)
    app.choose(form, "cnn")
    form.get_by_role("button", name="Execute").click()
    message = app.dialog.get_by_text("None of the 3 samples could be embedded").first
    expect(message).to_be_visible()
    expect(app.page.get_by_text("Traceback")).to_have_count(0)
    app.screenshot("compute-embeddings-error")
