"""Duplicates and outliers in FiftyOne's App: forms, results, and the saved views they leave."""

from playwright.sync_api import expect


def _shown(app, text: str) -> None:
    expect(app.page.locator("[data-cy=entry-counts]").first).to_contain_text(text, timeout=20_000)


def test_duplicates_form_result_and_views(app, photos):
    photos.persistent = True
    for sample in photos:
        sample.tags = ["test" if sample["name"] == "mirror" else "train"]
        sample.save()
    app.open(photos.name)
    form = app.open_operator("Quality: find duplicates")
    expect(form.get_by_text("30 samples will be compared")).to_be_visible()
    expect(form.get_by_text("cnn", exact=True)).to_be_visible()
    form.get_by_role("combobox").nth(1).click()
    app.page.get_by_role("option", name="tags").click()
    app.screenshot("duplicates-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("6 groups of duplicates")).to_be_visible(timeout=60_000)
    expect(app.dialog.get_by_text("1 group has members in both test and train")).to_be_visible()
    app.screenshot("duplicates-result")
    app.page.keyboard.press("Escape")

    app.open(photos.name, view="duplicates-groups")
    _shown(app, "12 samples")
    app.screenshot("duplicates-groups")
    app.open(photos.name, view="duplicates-redundant")
    _shown(app, "6 samples")
    app.open(photos.name, view="duplicates-leaks")
    _shown(app, "2 samples")
    app.screenshot("duplicates-leaks")


def test_outliers_form_result_and_view(app, photos, tmp_path):
    from PIL import Image

    photos.persistent = True
    first = photos.first()
    Image.new("RGB", (160, 142)).save(tmp_path / "black.png")
    first.filepath = str(tmp_path / "black.png")
    first.save()
    app.open(photos.name)
    form = app.open_operator("Quality: find outliers")
    expect(form.get_by_text("30 of 30 samples have vectors and will be judged")).to_be_visible()
    app.screenshot("outliers-form")
    form.locator("input").nth(2).fill("7")
    expect(form.get_by_text('must be "auto" or a number between 0 and 1')).to_be_visible()
    expect(form.get_by_role("button", name="Execute")).to_be_disabled()
    app.screenshot("outliers-form-error")
    form.locator("input").nth(2).fill("auto")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("flagged among 30 samples")).to_be_visible(timeout=60_000)
    expect(app.dialog.get_by_text("1 dark")).to_be_visible()
    app.screenshot("outliers-result")
    app.page.keyboard.press("Escape")

    photos.reload()
    app.open(photos.name, view="outliers-flagged")
    _shown(app, str(len(photos.load_saved_view("outliers: flagged"))))
    app.screenshot("outliers-flagged")
