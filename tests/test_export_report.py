"""The report on real findings: files that agree with the fields, a page on its own, refusals."""

import csv
import html.parser
import json
import os
import re
import shutil
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone_embedding_quality.report.paths import in_value
from PIL import Image
from sklearn.datasets import load_digits

FILES = {"report.html", "findings.csv", "findings.json"}
NASTY = "<script>alert('label')</script>&\"quoted\", =1+1"


def _operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


@pytest.fixture(scope="module")
def export_report():
    return _operator("export_report")


@pytest.fixture(scope="module")
def _judged_photos(_photos):
    """The photos with duplicates, a leak between splits, unequal labels, and outliers."""
    dataset = _photos.clone()
    for sample in dataset:
        sample.tags = ["test" if sample["name"] == "mirror" else "train"]
        sample["ground_truth"].label = NASTY if sample["name"] == "half" else "photo"
        sample.save()
    _operator("find_duplicates")(
        dataset, embeddings="cnn", label_field="ground_truth", split="tags"
    )
    _operator("find_outliers")(dataset, embeddings="cnn", threshold=0.05)
    yield dataset
    dataset.delete()


@pytest.fixture
def judged_photos(_judged_photos):
    dataset = _judged_photos.clone()
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def digits_with_issues():
    """400 of scikit-learn's digits, 20 with a wrong label; there are no image files."""
    digits = load_digits()
    truth = digits.target[:400]
    random = np.random.default_rng(51)
    wrong = random.choice(400, 20, replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + random.integers(1, 10, 20)) % 10
    names = [str(number) for number in range(9)] + [NASTY]
    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(
                f"/digits/{index}.png",
                ground_truth=fo.Classification(label=names[given[index]]),
                pixels=digits.data[index].astype(np.float32),
            )
            for index in range(400)
        ]
    )
    told = {"embeddings": "pixels", "label_field": "ground_truth"}
    _operator("find_label_issues")(dataset, **told)
    _operator("compute_separability")(dataset, **told)
    _operator("compute_visualization")(dataset, embeddings="pixels", method="pca")
    yield dataset
    dataset.delete()


class _Page(html.parser.HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [given[attribute] for name, given in self.tags if name == tag and attribute in given]


def _read(folder):
    page = _Page((folder / "report.html").read_text("utf-8"))
    with open(folder / "findings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return page, rows, json.loads((folder / "findings.json").read_text("utf-8"))


def _check_alone(page: _Page) -> None:
    """Nothing on the page names anything outside of it."""
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#"))
    (policy,) = [given["content"] for _, given in page.tags if "http-equiv" in given]
    assert policy.startswith("default-src 'none'; img-src data:")
    ids = {given["id"] for _, given in page.tags if "id" in given}
    assert {link[1:] for link in page.values("a", "href")} <= ids
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_duplicates_and_outliers_are_told_as_they_are_stored(
    judged_photos, export_report, tmp_path
):
    before = judged_photos.get_field_schema(flat=True).keys(), judged_photos.list_runs()
    result = export_report(judged_photos, path=str(tmp_path / "new" / "report"))
    json.dumps(result)
    folder = tmp_path / "new" / "report"
    assert {file.name for file in folder.iterdir()} == FILES
    page, rows, document = _read(folder)
    duplicates = [row for row in rows if row["what"] == "duplicate"]
    outliers = [row for row in rows if row["what"] == "outlier"]
    flagged = judged_photos.match(F("outliers_flagged") == True).sort_by("outliers_score", True)  # noqa: E712
    assert len(flagged) > 0
    assert result["findings"] == {"duplicate": len(duplicates), "outlier": len(outliers)}
    assert [row["id"] for row in outliers] == flagged.values("id")
    assert [float(row["score"]) for row in outliers] == flagged.values("outliers_score")
    assert [row["reason"] for row in outliers] == flagged.values("outliers_reason")
    assert [row["rank"] for row in outliers] == [str(i + 1) for i in range(len(outliers))]

    groups = judged_photos.load_saved_view("duplicates: groups")
    assert {row["id"] for row in duplicates} == set(groups.values("id"))
    for row in duplicates:
        sample = judged_photos[row["id"]]
        assert int(row["group"]) == sample["duplicates_group"]
        assert row["keep"] == str(sample["duplicates_keep"])
        assert row["change"] == (sample["duplicates_change"] or "")
        assert row["filepath"] == os.path.basename(sample.filepath)
        assert row["label"] == sample.ground_truth.label
        assert row["split"] in sample.tags
    assert duplicates[0]["group"] == "0" and duplicates[0]["keep"] == "True"
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in document["findings"]
    ] == rows
    facts = {run["run_key"]: run["facts"] for run in document["runs"]}
    assert facts["duplicates"]["leaks"] == [{"splits": ["test", "train"], "groups": 1}]

    _check_alone(page)
    text = " ".join(page.texts)
    assert "leak between splits" in text and "group of copies with different labels" in text
    assert NASTY in text
    # Every member of a group and every outlier is small enough to be on the page.
    assert len(page.values("img", "src")) == len(rows)
    assert (judged_photos.get_field_schema(flat=True).keys(), judged_photos.list_runs()) == before
    assert export_report.summary(result).count("- ") >= 3


def test_label_issues_and_separability_without_images(digits_with_issues, export_report, tmp_path):
    result = export_report(digits_with_issues, path=str(tmp_path))
    page, rows, document = _read(tmp_path)
    view = digits_with_issues.load_saved_view("label_issues: flagged")
    assert [row["id"] for row in rows] == view.values("id")
    assert [row["label"] for row in rows] == view.values("ground_truth.label")
    assert [row["suggestion"] for row in rows] == view.values("label_issues_suggested.label")
    assert [float(row["quality"]) for row in rows] == view.values("label_issues_quality")
    assert NASTY in {row["label"] for row in rows} | {row["suggestion"] for row in rows}
    assert result["runs"] == ["label_issues", "separability", "pixels_pca"]
    classes = document["runs"][1]["separability"]["classes"]
    assert len(classes) == 10 and {row["weak"] for row in classes} <= {True, False}
    advised = [row["advice"] for row in classes if row["advice"]]
    assert advised and all(advice in " ".join(page.texts) for advice in advised)
    assert document["maps"][0]["facts"]["parameters"]["method"] == "pca"

    _check_alone(page)
    text = " ".join(page.texts)
    assert "file not found" in text and not page.values("img", "src")
    assert NASTY in text
    titles = [given["id"] for tag, given in page.tags if tag == "section"]
    assert titles == ["first", "run-label_issues", "run-separability", "map-pixels_pca", "made"]
    dots = sum(path.count("h0") for path in page.values("path", "d"))
    assert dots == 400
    precision = document["runs"][0]["facts"]["expected_precision"]
    assert f"About {round(len(rows) * precision)} of them" in text
    assert "Not checked yet: duplicates" in text


def test_the_same_dataset_makes_the_same_report(digits_with_issues, export_report, tmp_path):
    texts = []
    for name in ("one", "two"):
        export_report(digits_with_issues, path=str(tmp_path / name))
        text = (tmp_path / name / "report.html").read_text("utf-8")
        texts.append(re.sub(r"\d\d\d\d-\d\d-\d\d \d\d:\d\d UTC", "", text))
    assert texts[0] == texts[1]
    csvs = [(tmp_path / name / "findings.csv").read_bytes() for name in ("one", "two")]
    assert csvs[0] == csvs[1]


def test_a_view_and_chosen_runs(judged_photos, export_report, tmp_path):
    view = judged_photos.match(F("duplicates_group") == 0)
    result = export_report(view, path=str(tmp_path), run_keys="duplicates")
    page, rows, _ = _read(tmp_path)
    assert {row["id"] for row in rows} == set(view.values("id"))
    assert result["runs"] == ["duplicates"] and result["findings"] == {"duplicate": len(view)}
    assert "2 samples of 30, a view of the dataset" in " ".join(page.texts)


def test_what_is_out_of_date_is_said(judged_photos, export_report, tmp_path):
    assert export_report(judged_photos, path=str(tmp_path / "fresh"))["stale"] == {}
    page, _, _ = _read(tmp_path / "fresh")
    assert "out of date" not in page.texts

    sample = judged_photos.first()
    sample["cnn"] = -sample["cnn"]
    sample.save()
    result = export_report(judged_photos, path=str(tmp_path))
    page, _, document = _read(tmp_path)
    reason = "the embeddings in cnn have changed"
    assert result["stale"] == document["stale"] == {"duplicates": [reason], "outliers": [reason]}
    # In front of everything, and where each run is told.
    assert page.texts.count("out of date") == 3
    assert sum(reason in text for text in page.texts) == 4
    assert f"out of date: `outliers`: {reason}" in export_report.summary(result)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])
def test_spreadsheets_execute_nothing_of_the_table(judged_photos, export_report, tmp_path, start):
    label = start + 'HYPERLINK("https://example.com")'
    judged_photos.set_values("ground_truth.label", [label] * len(judged_photos))
    export_report(judged_photos, path=str(tmp_path), run_keys="duplicates")
    _, rows, document = _read(tmp_path)
    assert {row["label"] for row in rows} == {"'" + label}
    assert {row["label"] for row in document["findings"]} == {label}
    # Numbers are numbers, below zero too.
    with open(tmp_path / "findings.csv", newline="", encoding="utf-8") as file:
        told = [row["similarity"] for row in csv.DictReader(file)]
    assert [float(text) for text in told if text] == [
        row["similarity"] for row in document["findings"] if row["similarity"] is not None
    ]


def test_objects_are_cut_out_of_their_images(dataset, photo_tiles, export_report, tmp_path):
    row = Image.new("RGB", (640, 142))
    for place in range(4):
        row.paste(photo_tiles[place], (160 * place, 0))
    row.save(tmp_path / "row.png")
    other = Image.new("RGB", (640, 426), "gray")
    other.paste(photo_tiles[2], (300, 200))
    other.save(tmp_path / "other.png")
    vectors = np.eye(4, dtype=np.float32)
    detections = [
        fo.Detection(
            label=f"tile {place}", bounding_box=[place / 4, 0, 1 / 4, 1], vector=vectors[place]
        )
        for place in range(4)
    ]
    again = fo.Detection(
        label="again", bounding_box=[300 / 640, 200 / 426, 160 / 640, 142 / 426], vector=vectors[2]
    )
    for name, objects in (("row.png", detections), ("other.png", [again])):
        dataset.add_sample(
            fo.Sample(str(tmp_path / name), objects=fo.Detections(detections=objects))
        )
    dataset.add_sample_field("objects.detections.vector", fo.VectorField)
    _operator("find_duplicates")(dataset, embeddings="vector", patches_field="objects")
    export_report(dataset, path=str(tmp_path / "report"))
    page, rows, _ = _read(tmp_path / "report")
    ids = dict(
        zip(*dataset.values(["objects.detections.label", "objects.detections.id"], unwind=True))
    )
    assert {row["id"]: row["label"] for row in rows} == {
        ids[label]: label for label in ("tile 2", "again")
    }
    assert {row["sample_id"] for row in rows} == set(dataset.values("id"))
    # Cut out, not the whole image: squares, as models see the objects.
    sizes = zip(page.values("img", "width"), page.values("img", "height"))
    assert all(0.85 < int(height) / int(width) <= 1 for width, height in sizes)
    assert len(page.values("img", "src")) == 2
    assert "Duplicates of patches in objects" in " ".join(page.texts)

    # Of a patches view, its objects; a run on samples is left out and said.
    _operator("find_duplicates")(dataset, run_key="whole")
    patches = dataset.to_patches("objects").match(F("objects.label") == "tile 2")
    result = export_report(patches, path=str(tmp_path / "patches"))
    _, rows, _ = _read(tmp_path / "patches")
    assert [row["id"] for row in rows] == [ids["tile 2"]]
    assert list(result["left_out"]) == ["whole"]


@pytest.fixture
def private_photos(photos, compute_embeddings, tmp_path):
    """Photos in two folders below a private one, one that is broken, and a file of weights."""
    folder = tmp_path / "Ann Smith's secrets" / "set"
    for number, sample in enumerate(photos):
        place = folder / ("train" if number % 2 else "test") / Path(sample.filepath).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.filepath, place)
        sample.filepath = str(place)
        sample.save()
    broken = photos.match(F("name") == "photo-07").first()
    Path(broken.filepath).write_bytes(b"no image")
    compute_embeddings(photos, model="cnn", overwrite=True)
    _operator("find_duplicates")(photos, embeddings="cnn", label_field="ground_truth")
    _operator("find_outliers")(photos, embeddings="cnn", threshold=0.05)
    info = photos.get_run_info("cnn")
    info.config.facts["weights"] = str(tmp_path / "Ann Smith's secrets" / "weights.pt")
    info.config.facts["warnings"] = [f"cannot read '{folder}/train/x.png': see {tmp_path}/log.txt"]
    photos.update_run_config("cnn", info.config)
    return photos


def test_strangers_are_not_told_where_the_files_lie(private_photos, export_report, tmp_path):
    gone = private_photos.match(F("duplicates_group") == 0).first()
    os.remove(gone.filepath)
    export_report(private_photos, path=str(tmp_path / "report"))
    page, rows, document = _read(tmp_path / "report")
    for name in FILES:
        text = (tmp_path / "report" / name).read_text("utf-8")
        for part in (str(tmp_path), tmp_path.name, "Ann Smith", str(Path.home()) + "/"):
            assert part not in text, (name, part)
    folders = {row["filepath"].partition("/")[0] for row in rows}
    assert folders == {"train", "test"}
    for row in rows:
        path = private_photos[row["sample_id"]].filepath
        assert path.endswith(f"/set/{row['filepath']}")
    facts = document["runs"][0]["facts"]
    assert facts["weights"] == "…/weights.pt"
    assert facts["warnings"] == ["cannot read 'train/x.png': see …/log.txt"]
    (failure,) = facts["failures"]
    assert failure["examples"] == ["train/photo-07.png"]
    assert "file not found" in " ".join(page.texts)
    assert any(title.startswith(("train/", "test/")) for title in page.values("span", "title"))


@pytest.mark.parametrize(
    "text, told",
    [
        ("/home/me/cats/train/a.png", "train/a.png"),
        ("/home/me/cats2/a.png", "…/a.png"),
        ("/home/me/cats", "…/cats"),
        ("text:/home/me/encoder", "text:…/encoder"),
        ("~/models/my weights.pt", "…/my weights.pt"),
        ("s3://bucket/cats/a.png", "…/a.png"),
        ("C:\\Users\\me\\a.png", "…/a.png"),
        ("damaged file: '/home/me/my cats/a.png' (cut)", "damaged file: '…/a.png' (cut)"),
        ("2 files, /home/me/cats/b.png and /mnt/x/c.png", "2 files, b.png and …/c.png"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        # Labels of Open Images, dates, and shares are no files.
        ("/m/01g317", "/m/01g317"),
        ("class /m/01g317 has few", "class /m/01g317 has few"),
        ("and/or 1/2, 3 / 4", "and/or 1/2, 3 / 4"),
        ("", ""),
    ],
)
def test_full_paths_in_texts(text, told):
    assert in_value({"a": [text]}, "/home/me/cats") == {"a": [told]}
    assert in_value(told, "/home/me/cats") == told


def test_what_it_wrote_is_replaced_and_nothing_else(
    judged_photos, digits_with_issues, export_report, tmp_path
):
    path = str(tmp_path)
    export_report(judged_photos, path=path)
    export_report(judged_photos, path=path)
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ValueError, match="already holds the report of the dataset"):
        export_report(digits_with_issues, path=path)

    table = tmp_path / "findings.csv"
    table.write_text(table.read_text() + "my own line\n")
    with pytest.raises(ValueError, match=r"findings\.csv that.*changed since.*overwrite=True"):
        export_report(judged_photos, path=path)
    assert table.read_text().endswith("my own line\n")
    export_report(judged_photos, path=path, overwrite=True)
    assert "my own line" not in table.read_text()
    export_report(judged_photos, path=path)

    (tmp_path / "findings.json").unlink()
    with pytest.raises(ValueError, match=r"report\.html that this plugin did not write"):
        export_report(judged_photos, path=path)
    for content in ("[]", "{}", "no json", '{"generator": 1}'):
        (tmp_path / "findings.json").write_text(content)
        with pytest.raises(ValueError, match="did not write"):
            export_report(judged_photos, path=path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == FILES | {"notes.txt"}


def test_the_default_folder_is_named_after_the_dataset(
    judged_photos, export_report, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = export_report(judged_photos)
    assert result["path"] == str(tmp_path / f"{judged_photos.slug}-quality-report")
    assert (tmp_path / f"{judged_photos.slug}-quality-report" / "report.html").is_file()


def test_refusals(dataset, judged_photos, export_report, tmp_path):
    dataset.add_sample(fo.Sample("/nothing.png"))
    with pytest.raises(ValueError, match="nothing to report yet; run find_duplicates"):
        export_report(dataset, path=str(tmp_path / "a"))
    (tmp_path / "file").write_text("")
    for path, message in (
        ("", "path='' is empty"),
        ("s3://bucket/report", "is not a folder on this machine"),
        (str(tmp_path / "file"), "is a file; name a folder"),
        (str(tmp_path / "file" / "below"), "cannot be written"),
    ):
        with pytest.raises(ValueError, match=message):
            export_report(judged_photos, path=path)
    with pytest.raises(ValueError, match=r"'nothing' is not a finished run.*duplicates, outliers"):
        export_report(judged_photos, path=str(tmp_path / "a"), run_keys=["nothing"])
    with pytest.raises(
        ValueError, match=r"run_keys=\[\] selects no run.*choose from duplicates, outl"
    ):
        export_report(judged_photos, path=str(tmp_path / "a"), run_keys=[])
    with pytest.raises(ValueError, match="There are no samples in this view; choose"):
        export_report(judged_photos.limit(0), path=str(tmp_path / "a"))
    with pytest.raises(ValueError, match="no parameter 'folder'"):
        export_report(judged_photos, folder="x")
    assert {file.name for file in tmp_path.iterdir()} == {"file"}


def test_missing_fields_leave_an_honest_report(judged_photos, export_report, tmp_path):
    judged_photos.delete_sample_field("outliers_flagged")
    judged_photos.delete_sample_field("ground_truth")
    judged_photos.untag_samples(["test", "train"])
    result = export_report(judged_photos, path=str(tmp_path))
    _, rows, _ = _read(tmp_path)
    assert set(result["findings"]) == {"duplicate"}
    assert {row["label"] for row in rows} == {""} and {row["split"] for row in rows} == {""}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.browser
def test_the_page_in_a_browser(judged_photos, digits_with_issues, export_report, tmp_path, scheme):
    browser = pytest.importorskip("browser", reason="needs playwright for the browser tests")
    from playwright.sync_api import expect, sync_playwright

    if browser.find_browser() is None:
        pytest.skip("needs chromium or Chrome on the PATH for the browser tests")
    export_report(judged_photos, path=str(tmp_path / "photos"))
    export_report(digits_with_issues, path=str(tmp_path / "digits"))
    shots = Path(browser.SCREENSHOTS or tmp_path)
    shots.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser.find_browser(), args=browser.ARGUMENTS
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        for name in ("photos", "digits"):
            page.goto((tmp_path / name / "report.html").as_uri())
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == 1280
            broken = "image => !image.complete || image.naturalWidth === 0"
            assert not page.evaluate(f"[...document.images].some({broken})")
            page.screenshot(path=shots / f"report-{name}-{scheme}.png", full_page=True)
        table = page.locator("table.sortable")
        table.get_by_role("button", name="Samples").click()
        counts = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
        assert counts == sorted(counts, key=int) and len(counts) == 10
        table.get_by_role("button", name="Class").click()
        expect(table.locator("tbody tr").first).to_contain_text("0")
        chromium.close()
    assert complaints == [] and set(asked) <= {"file", "data"}


def test_the_form_in_the_app(app, judged_photos, tmp_path):
    from playwright.sync_api import expect

    judged_photos.persistent = True
    app.open(judged_photos.name)
    form = app.open_operator("Quality: export report")
    expect(form.get_by_text("will cover cnn, duplicates, outliers")).to_be_visible()
    field = form.locator("input").first
    expect(field).to_have_value(re.compile(f"{judged_photos.slug}-quality-report$"))
    expect(form.get_by_role("button", name="Execute")).to_be_enabled()
    app.screenshot("report-form")
    field.fill("somewhere")
    expect(form.get_by_text("is not an absolute path").first).to_be_visible()
    expect(form.get_by_role("button", name="Execute")).to_be_disabled()
    app.screenshot("report-form-error")
    field.fill(str(tmp_path / "from-app"))
    expect(form.get_by_text("is not an absolute path")).to_have_count(0)
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("written to")).to_be_visible()
    app.screenshot("report-result")
    assert {file.name for file in (tmp_path / "from-app").iterdir()} == FILES
