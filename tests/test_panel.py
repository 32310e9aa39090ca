"""The panel "Class separability": what it shows, and what each click puts in the grid."""

import sys
from concurrent.futures import ThreadPoolExecutor

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pydash
import pytest
from fiftyone import ViewField as F
from fiftyone_embedding_quality.panels._measures import (
    MEASURES,
    decimal,
    percent,
    points,
    ratio,
    worst_first,
)
from fiftyone_embedding_quality.storage.runs import read_run, write_results, write_run

PANEL = "@embedding/quality/class_separability"


class Panel:
    """A panel without a browser: sends events and keeps the state, as the App does."""

    def __init__(self, dataset, load=True, name="test"):
        self.dataset, self.name, self.state, self.view = dataset, name, {}, None
        if load:
            self.send("on_load")

    def send(self, method, **params):
        """Sends an event, and those that it asks for."""
        self.send_one(method, **params)
        asked = self.asked.get("prompt_user_for_operation", {})
        if asked.get("skip_prompt"):
            result = self.send_one(asked["operator_uri"].partition("#")[2], **asked["params"])
            self.send_one(asked["on_success"].partition("#")[2], result=result)

    def send_one(self, method, **params):
        context = {"dataset": self.dataset} if self.view is None else {"view": self.view}
        self.asked = {}
        params |= {"panel_id": self.name, "panel_state": self.state, "__method__": method}
        result = foo.execute_operator(PANEL, context, params=params)
        for request in result.executor._requests:
            self.asked[request.operator_uri] = request.params
            if request.operator_uri == "patch_panel_state":
                for key, value in request.params["state"].items():
                    # FiftyOne's App would merge a list into the old one.
                    assert not isinstance(value, list), key
                    pydash.set_(self.state, key, value)
            elif request.operator_uri == "set_view":
                self.view = fo.DatasetView._build(self.dataset, request.params["view"])
            elif request.operator_uri == "clear_view":
                self.view = None
        return result.result

    @property
    def shown(self):
        """The names of all that the panel shows, and their properties."""
        found = {}

        def walk(properties):
            for name, entry in properties.items():
                found[name] = entry
                walk(entry["type"].get("properties") or {})

        walk(self.asked["show_panel_output"]["output"]["type"]["properties"])
        return found

    def text(self, name):
        return self.shown[name]["default"]

    def rows(self, name):
        return self.shown[name]["default"]

    @property
    def labels(self):
        return [row[0] for row in self.rows("table")["rows"]]

    def click(self, label, column="label"):
        table = self.rows("table")
        self.send("on_cell", row=self.labels.index(label), column=table["columns"].index(column))

    def press(self, button):
        view = self.shown[button]["view"]
        self.send(view["operator"].partition("#")[2], **(view.get("params") or {}))

    def click_head(self, column):
        self.send("on_cell", row=-1, column=self.rows("table")["columns"].index(column))


def _vectors(labels):
    """Clusters by label; those of "b" and "c" overlap."""
    random = np.random.default_rng(51)
    names = sorted(set(labels))
    centers = {name: 4 * np.eye(16)[number] for number, name in enumerate(names)}
    centers["c"] = centers["b"] + 1.2 * np.eye(16)[15]
    return [(centers[name] + random.normal(size=16)).astype(np.float32) for name in labels]


@pytest.fixture(scope="module")
def _measured(digit_files):
    dataset = fo.Dataset()
    labels = ["abcd"[index % 4] for index in range(120)]
    for (path, _), label, vector in zip(digit_files, labels, _vectors(labels)):
        dataset.add_sample(fo.Sample(path, ground_truth=fo.Classification(label=label), vec=vector))
    far = dataset.match(F("ground_truth.label") == "d").first()
    far["vec"] = -3 * far["vec"]
    far.save()
    common = {"embeddings": "vec", "label_field": "ground_truth"}
    _run("find_outliers", dataset, check_pictures=False, **common)
    _run("compute_separability", dataset, **common)
    return dataset


@pytest.fixture
def measured(_measured):
    """120 digits in four classes, of which b and c mix, with runs."""
    dataset = _measured.clone()
    yield dataset
    dataset.delete()


def _run(operator, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{operator}")(dataset, **parameters)


def _report(dataset, run_key="separability"):
    return dataset.load_run_results(run_key).report


# What is shown


def test_the_latest_run_is_shown_worst_first(measured):
    panel = Panel(measured)
    report = _report(measured)
    assert panel.state["top"]["run"] == "separability"
    assert panel.labels == [row["label"] for row in report["classes"]]
    assert set(panel.labels[:2]) == {"b", "c"}
    first = panel.rows("table")["rows"][0]
    assert first[1:3] == ["30", percent(report["classes"][0]["f1"])]
    assert panel.rows("overall")["rows"][0][0] == percent(report["overall"]["balanced_accuracy"])
    assert "stale" not in panel.shown and "card" not in panel.shown


def test_a_head_sorts_and_sorts_back(measured):
    panel = Panel(measured)
    recalls = {row["label"]: row["recall"] for row in _report(measured)["classes"]}
    panel.click_head("recall")
    assert [recalls[label] for label in panel.labels] == sorted(recalls.values())
    assert panel.state["tools"]["measure"] == "recall"
    panel.click_head("recall")
    assert [recalls[label] for label in panel.labels] == sorted(recalls.values(), reverse=True)
    panel.click_head("label")
    assert panel.labels == list("abcd")
    panel.send("on_measure", value="outliers")
    assert panel.labels[0] == "d"


def test_search(measured):
    panel = Panel(measured)
    panel.send("on_search", value=" C ")
    assert panel.labels == ["c"]
    panel.send("on_search", value="zebra")
    assert "table" not in panel.shown and "no_class" in panel.shown
    panel.send("on_search", value="")
    assert len(panel.labels) == 4


def test_chart_and_matrix_show_the_report(measured):
    panel = Panel(measured)
    report = _report(measured)
    panel.send("on_tab", value="chart")
    (bars,) = panel.shown["bars"]["view"]["data"]
    assert bars["y"] == [row["label"] for row in report["classes"]]
    assert bars["x"] == [row["f1"] for row in report["classes"]]
    panel.send("on_tab", value="confusion")
    heat, diagonal = panel.shown["matrix"]["view"]["data"]
    assert heat["x"] == heat["y"] == report["order"]
    shares = {(p["label"], p["other"]): p["predicted_share"] for p in report["pairs"]}
    for row, label in enumerate(heat["y"]):
        assert heat["z"][row][row] is None and diagonal["z"][row][row] == 0
        for column, other in enumerate(heat["x"]):
            if label != other:
                assert heat["z"][row][column] == shares.get((label, other), 0)


def test_the_second_run_is_compared(measured):
    vectors = np.random.default_rng(1).normal(size=(120, 16)).astype(np.float32)
    measured.set_values("noise", list(vectors))
    _run(
        "compute_separability",
        measured,
        embeddings="noise",
        label_field="ground_truth",
        run_key="noise",
    )
    panel = Panel(measured)
    panel.send("on_run", value="separability")
    panel.send("on_other", value="noise")
    mine, theirs = _report(measured), _report(measured, "noise")
    theirs = {row["label"]: row["f1"] for row in theirs["classes"]}
    for row, cells in zip(mine["classes"], panel.rows("table")["rows"]):
        assert cells[0] == row["label"] and cells[3] == percent(theirs[row["label"]])
        assert cells[4] == points(row["f1"] - theirs[row["label"]])
    assert [row[0] for row in panel.rows("overall")["rows"]] == [
        "separability",
        "noise",
        "difference",
    ]
    panel.send("on_tab", value="chart")
    assert [trace["name"] for trace in panel.shown["bars"]["view"]["data"]] == [
        "separability",
        "noise",
    ]


def test_of_many_classes_only_a_page_and_the_most_confused_are_sent(dataset, digit_files):
    labels = [f"{index % 40:02}" for index in range(200)]
    random = np.random.default_rng(51)
    for (path, _), label in zip(digit_files, labels):
        center = 5 * np.eye(40)[38 if label == "39" else int(label)]
        vector = (center + random.normal(size=40)).astype(np.float32)
        sample = fo.Sample(path, ground_truth=fo.Classification(label=label), vec=vector)
        dataset.add_sample(sample)
    _run("compute_separability", dataset, embeddings="vec", label_field="ground_truth")
    panel = Panel(dataset)
    first = panel.labels
    assert len(first) == 15 and panel.text("place") == "1 to 15 of 40"
    panel.send("on_page", page=2)
    assert len(panel.labels) == 10 and not set(first) & set(panel.labels)
    panel.send("on_tab", value="confusion")
    shown = panel.shown["matrix"]["view"]["data"][0]["x"]
    order = _report(dataset)["order"]
    assert len(shown) == 30 and {"38", "39"} <= set(shown)
    assert shown == [label for label in order if label in shown]
    panel.send("on_matrix", matrix=1)
    assert set(panel.shown["matrix"]["view"]["data"][0]["x"]) == set(order) - set(shown)
    panel.send("on_matrix", matrix="all")
    assert panel.shown["matrix"]["view"]["data"][0]["x"] == order


# What a click shows


def test_a_class_its_neighbors_its_outliers_and_back(measured):
    panel = Panel(measured)
    panel.view = measured.limit(50)
    panel.click("b")
    assert panel.view.distinct("ground_truth.label") == ["b"] and len(panel.view) == 30
    assert "confused with" in panel.text("what") or "b" in panel.text("what")
    panel.click("b", "confused_with")
    boundary = next(
        pair["boundary"]
        for pair in _report(measured)["pairs"]
        if (pair["label"], pair["other"]) == ("b", "c")
    )
    assert panel.view.values("id") == boundary
    panel.send("on_kind", kind="outliers", label="d")
    flagged = measured.match((F("ground_truth.label") == "d") & F("outliers_flagged"))
    assert panel.view.values("id") == flagged.values("id") != []
    panel.send("on_back")
    assert panel.view.values("id") == measured.limit(50).values("id")
    assert "card" not in panel.shown
    panel.view = None
    panel.click("a")
    panel.send("on_back")
    assert panel.view is None and "clear_view" in panel.asked


def test_a_click_leaves_the_state_alone(measured):
    """For each change of a panel's state, the App loads its page anew."""
    panel = Panel(measured)
    panel.click("b")
    assert "set_view" in panel.asked and "patch_panel_state" not in panel.asked
    other = Panel(measured, name="other")
    assert "card" not in other.shown
    panel.send("on_tab", value="chart")
    assert "card" in panel.shown
    panel.send("on_change_dataset")
    assert "card" not in panel.shown


def test_back_after_quick_clicks(measured):
    """Events from a page that does not show yet what was clicked before."""
    panel = Panel(measured)
    panel.view = first = measured.limit(50)
    panel.click("a")
    after_a = panel.view
    panel.view = first
    panel.click("b")
    panel.view = after_a
    panel.click("b")
    panel.send("on_back")
    assert panel.view.values("id") == first.values("id")


def test_back_after_clicks_at_the_same_time(measured):
    """A double click is two events, and both come from the page before the first."""
    panel = Panel(measured)
    panel.view = measured.limit(50)
    panel.click("b")
    view_b = panel.view
    for label in "acad":  # each while the grid still shows b
        windows = [Panel(measured, load=False) for _ in range(3)]
        for window in windows:
            window.state, window.view = dict(panel.state), view_b
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda window, label=label: window.send("on_bar", y=label), windows))
        for window in windows:
            assert window.view.distinct("ground_truth.label") == [label]
    panel.view = windows[-1].view
    panel.send("on_back")
    assert len(panel.view) == 50


def test_back_when_there_was_nothing_to_show(measured):
    panel = Panel(measured)
    panel.view = measured.limit(50)
    panel.send("on_kind", kind="label_issues", label="d")
    assert "card" in panel.shown
    panel.send("on_back")
    assert len(panel.view) == 50 and "card" not in panel.shown


def test_windows_that_show_the_same_panel(measured):
    panel, window = Panel(measured), Panel(measured)
    panel.click("a")
    window.click("b")
    panel.send("on_refresh")
    assert panel.text("what").startswith("**a**")
    panel.send("on_load")
    assert panel.text("what").startswith("**a**")
    panel.send("on_back")
    window.send("on_refresh")
    assert window.text("what").startswith("**b**") and "card" not in panel.shown


def test_bars_and_squares(measured):
    panel = Panel(measured)
    panel.send("on_bar", x=0.5, y="a", idx=0)
    assert panel.view.distinct("ground_truth.label") == ["a"]
    panel.send("on_square", x="b", y="c", z=0.2, idx=[0, 1])
    assert "of **c** near **b**" in panel.text("what")
    assert panel.view.distinct("ground_truth.label") == ["c"]
    panel.send("on_bar", x=0.5, y="unheard of", idx=0)
    assert panel.asked["notify"]["message"] == "Nothing of unheard of is left"
    panel.send("on_square", x="d", y="d", z=0, idx=[0, 0])
    assert panel.view.distinct("ground_truth.label") == ["d"]


def test_the_card_shows_pairs_in_both_directions(measured):
    panel = Panel(measured)
    panel.click("b")
    path = next(name for name in panel.shown if name.startswith("mixing_"))
    mixing = panel.rows(path)
    row = [cells[0] for cells in mixing["rows"]].index("c")
    panel.send("on_pair", row=row, column=2, path=f"card.{path}")
    assert panel.view.distinct("ground_truth.label") == ["c"]
    # What the card on the screen says holds, whatever was clicked a moment ago.
    panel.click("a")
    panel.send("on_pair", row=row, path=f"card.{path}")
    assert panel.view.distinct("ground_truth.label") == ["b"]


def test_only_what_the_run_has_read_is_shown(measured):
    view = measured.limit(60)
    _run("compute_separability", view, embeddings="vec", label_field="ground_truth")
    panel = Panel(measured)
    panel.click("a")
    assert panel.view.values("id") == view.match(F("ground_truth.label") == "a").values("id")
    assert "stale" not in panel.shown


@pytest.mark.parametrize("most", [2_000, 1])
@pytest.mark.parametrize("old", [False, True])
def test_of_what_was_read_only_what_is_still_labeled_so_is_shown(measured, monkeypatch, most, old):
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.storage.separability"]
    monkeypatch.setattr(module, "MAX_SELECTED", most)
    if old:  # runs that were stored before they kept their labels
        stored = measured.load_run_results("separability")
        write_results(measured, "separability", report=stored.report, ids=stored.ids)
        run = read_run(measured, "separability")
        write_run(measured, run)
    gone, new = measured.match(F("ground_truth.label") == "a").limit(2)
    gone["ground_truth"].label = "b"
    gone.save()
    measured.delete_samples([new])
    measured.add_sample(fo.Sample("new.png", ground_truth=fo.Classification(label="a")))
    kept = measured.match(F("ground_truth.label") == "a").values("id")[:-1]
    panel = Panel(measured)
    panel.click("a")
    assert panel.view.values("id") == kept and len(kept) == 28
    panel.click("b")
    assert len(panel.view) == (31 if old or most == 1 else 30)


def test_select_and_tag_all(measured):
    panel = Panel(measured)
    panel.click("b")
    panel.press("select_all")
    ids = [sample["id"] for sample in panel.asked["set_selected_samples"]["samples"]]
    assert ids == panel.view.values("id")
    panel.press("tag_all")
    assert panel.asked["notify"]["message"] == "Type a tag first"
    pydash.set_(panel.state, "card.tagging.tag", " review ")
    panel.press("tag_all")
    assert measured.match_tags("review").values("id") == ids
    panel.send("on_refresh")
    assert "stale" not in panel.shown


def test_objects_are_shown_as_patches(dataset, digit_files):
    labels = ["abcd"[index % 4] for index in range(120)]
    vectors = _vectors(labels)
    for place, (path, _) in enumerate(digit_files[:60]):
        boxes = [
            fo.Detection(label=labels[i], bounding_box=[0.1, 0.1, 0.5, 0.5], vec=vectors[i])
            for i in (2 * place, 2 * place + 1)
        ]
        dataset.add_sample(fo.Sample(path, boxes=fo.Detections(detections=boxes)))
    dataset.add_sample_field("boxes.detections.vec", fo.VectorField)
    _run(
        "compute_separability",
        dataset,
        embeddings="vec",
        patches_field="boxes",
        label_field="boxes",
    )
    panel = Panel(dataset)
    panel.click("b")
    assert isinstance(panel.view, fo.core.patches.PatchesView) and len(panel.view) == 30
    assert panel.view.distinct("boxes.label") == ["b"]
    panel.send("on_square", x="c", y="b", z=0.1, idx=[0, 0])
    pairs = {(p["label"], p["other"]): p["boundary"] for p in _report(dataset)["pairs"]}
    assert panel.view.values("id") == pairs["b", "c"]
    pydash.set_(panel.state, "card.tagging.tag", "check")
    panel.press("tag_all")
    assert dataset.count_label_tags() == {"check": len(pairs["b", "c"])}
    assert dataset.count_sample_tags() == {}
    panel.send("on_back")
    dataset.filter_labels("boxes", F("label") == "a").set_values(
        "boxes.detections.label", [["z"]] * 30
    )
    panel.send("on_refresh")
    assert "have changed" in panel.shown["stale"]["view"]["description"]


def test_the_embeddings_panel_or_the_form_that_makes_a_map(measured):
    panel = Panel(measured)
    panel.click("b")
    panel.send("on_visualization")
    asked = panel.asked["prompt_user_for_operation"]
    assert asked["operator_uri"].endswith("compute_visualization")
    assert asked["params"] == {"embeddings": "vec"}
    _run("compute_visualization", measured, embeddings="vec", method="pca")
    panel.send("on_visualization")
    assert panel.asked["open_panel"]["name"] == "Embeddings"


# Empty, stale, at fault


def test_empty_states_help(dataset, digit_files):
    for path, _ in digit_files[:20]:
        dataset.add_sample(fo.Sample(path))
    panel = Panel(dataset)
    assert "No embeddings" in panel.text("hint")
    panel.send("on_compute_embeddings")
    asked = panel.asked["prompt_user_for_operation"]
    assert asked["operator_uri"].endswith("compute_embeddings")
    labels = ["ab"[index % 2] for index in range(20)]
    dataset.set_values("vec", _vectors(labels))
    panel.send("on_refresh")
    assert "No labels" in panel.text("hint") and "compute" not in panel.shown
    dataset.set_values("ground_truth", [fo.Classification(label=label) for label in labels])
    panel.send("on_refresh")
    assert "Not measured" in panel.text("hint")
    panel.send("on_compute")
    asked = panel.asked["prompt_user_for_operation"]
    assert asked["params"] == {"embeddings": "vec", "label_field": "ground_truth"}
    _run("compute_separability", dataset, **asked["params"])
    panel.send("on_computed")
    assert sorted(panel.labels) == ["a", "b"]


def test_an_empty_dataset_and_none(dataset):
    assert "no samples" in str(Panel(dataset).shown["error"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: _relabel(d, "b"), "labels in ground_truth have changed (a 30 → 29, b 30 → 31)"),
        (lambda d: d.delete_samples(d.limit(3)), "3 samples were removed"),
        (
            lambda d: d.add_sample(fo.Sample("new.png", ground_truth=fo.Classification(label="a"))),
            "1 samples were added",
        ),
        (lambda d: d.delete_sample_field("vec"), "the embeddings vec no longer exist"),
        (
            lambda d: d.delete_sample_field("ground_truth"),
            "the labels ground_truth no longer exist",
        ),
    ],
)
def test_what_has_changed_is_said(measured, change, message):
    change(measured)
    panel = Panel(measured)
    assert message in panel.shown["stale"]["view"]["description"]
    assert panel.labels
    panel.send("on_compute")
    parameters = panel.asked["prompt_user_for_operation"]["params"]
    assert parameters == {
        "embeddings": "vec",
        "label_field": "ground_truth",
        "run_key": "separability",
    }


def test_the_long_check_follows_the_drawing_and_undoes_nothing(measured, monkeypatch):
    _relabel(measured, "b")
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.storage.separability"]
    compared, compare = [], module.stale_reasons
    monkeypatch.setattr(
        module, "stale_reasons", lambda *values: compared.append(1) or compare(*values)
    )
    panel = Panel(measured, load=False)
    panel.send_one("on_load")
    assert panel.labels and not compared and "stale" not in panel.shown
    asked = panel.asked["prompt_user_for_operation"]
    assert asked["skip_prompt"] and asked["operator_uri"] == f"{PANEL}#check"
    panel.click("b")
    result = panel.send_one("check", **asked["params"])
    assert compared and "show_panel_output" not in panel.asked
    # The answer to an event that crosses the check may be drawn last.
    panel.send_one("on_tab", value="classes")
    assert "stale" in panel.shown
    panel.send_one("on_checked", result=result)
    assert "stale" in panel.shown and "card" in panel.shown
    panel.send_one("on_refresh")
    assert len(compared) == 1 and "stale" in panel.shown
    # What was found out about another run says nothing about this one.
    panel.send_one("on_checked", result={"read": "other", "stale": "nothing"})
    panel.send_one("on_checked", result=None)
    assert "have changed" in panel.shown["stale"]["view"]["description"]


def _relabel(dataset, label):
    sample = dataset.match(F("ground_truth.label") == "a").first()
    sample["ground_truth"].label = label
    sample.save()


def test_a_tag_makes_nothing_stale(measured):
    measured.limit(5).tag_samples("seen")
    assert "stale" not in Panel(measured).shown


def test_embeddings_that_somebody_has_replaced_make_it_stale(measured):
    sample = measured.first()
    sample["vec"] = sample["vec"] + 1
    sample.save()
    text = Panel(measured).shown["stale"]["view"]["description"]
    assert "the embeddings in vec have changed" in text


def test_what_is_gone_is_said(measured):
    panel = Panel(measured)
    measured.delete_sample_field("outliers_flagged")
    panel.send("on_kind", kind="outliers", label="d")
    assert "no longer exists" in panel.asked["notify"]["message"] and panel.view is None
    panel.send("on_kind", kind="label_issues", label="d")
    assert "no longer exists" in panel.asked["notify"]["message"]
    panel.click_head("label")
    measured.delete_run("separability")
    panel.send("on_bar", x=0, y="a", idx=0)
    assert "was deleted" in panel.asked["notify"]["message"]
    assert "Not measured" in panel.text("hint")


def test_a_run_that_is_deleted_or_computed_anew_while_it_is_seen(measured):
    common = {"embeddings": "vec", "label_field": "ground_truth"}
    _run("compute_separability", measured, run_key="second", **common)
    panel = Panel(measured)
    panel.send("on_run", value="separability")
    panel.send("on_other", value="second")
    panel.click("a")
    # Computed anew: a click in a row of the old table shows no class that it did not mean.
    first = panel.labels[0]
    measured.match(F("ground_truth.label") == first).set_field(
        "ground_truth.label", "renamed"
    ).save()
    _run("compute_separability", measured, **common)
    panel.view = None
    panel.send("on_row", row=0)
    assert "recomputed" in panel.asked["notify"]["message"] and panel.view is None
    assert "renamed" in panel.labels and first not in panel.labels
    assert "stale" not in panel.shown and "card" not in panel.shown
    panel.click("renamed")
    assert panel.view.distinct("ground_truth.label") == ["renamed"]
    # Deleted: what it was compared with, then itself.
    _run("delete_run", measured, run_key="second")
    panel.send("on_tab", value="chart")
    assert panel.state["top"]["other"] == "(none)" and "other" not in panel.shown
    _run("compute_separability", measured, run_key="third", **common)
    _run("delete_run", measured, run_key="separability")
    panel.send("on_tab", value="classes")
    assert panel.state["top"]["run"] == "third" and panel.labels
    _run("delete_run", measured, run_key="third")
    panel.send("on_search", value="b")
    assert "Not measured" in panel.text("hint")


def test_more_compares_embeddings_and_slices(measured):
    vectors = np.random.default_rng(1).normal(size=(120, 16)).astype(np.float32)
    measured.set_values("noise", list(vectors))
    measured.set_values("source", ["left", "right"] * 60)
    result = _run(
        "compute_separability",
        measured,
        embeddings=["vec", "noise"],
        label_field="ground_truth",
        by="source",
    )
    panel = Panel(measured)
    panel.send("on_tab", value="more")
    assert result["comparison"]["verdict"] in panel.text("comparison")
    assert [row[0] for row in panel.rows("embeddings_table")["rows"]] == ["vec", "noise"]
    assert {tuple(row[:2]) for row in panel.rows("slices_table")["rows"]} == {
        ("left", "60"),
        ("right", "60"),
    }
    assert result["field_prediction"]["verdict"] in panel.text("prediction")


def test_a_small_class_is_selected_by_id_and_a_large_one_by_its_label(measured, monkeypatch):
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.storage.separability"]
    panel, shown = Panel(measured), []
    for most in (30, 29):
        monkeypatch.setattr(module, "MAX_SELECTED", most)
        panel.click("b")
        shown.append(panel.view)
    assert [type(view._stages[0]) for view in shown] == [fo.Select, fo.Match]
    assert shown[0].values("id") == shown[1].values("id")


def test_a_defect_is_shown_and_not_raised(measured, monkeypatch):
    panel = Panel(measured)
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.storage.separability"]

    def broken(*_):
        raise KeyError("broken")

    monkeypatch.setattr(module, "class_view", broken)
    panel.click("b")
    assert panel.asked["notify"]["variant"] == "error" and panel.labels
    monkeypatch.setattr(module, "separability_runs", broken)
    panel.send("on_refresh")
    assert "broken" in str(panel.shown["error"]) and "refresh" in panel.shown


# Numbers


def test_numbers_have_the_right_digits():
    shares = [percent(share) for share in (None, 0, 0.001, 0.884, 0.999, 1)]
    shares = [text.replace("\N{NO-BREAK SPACE}", " ") for text in shares]
    assert shares == ["–", "0 %", "<1 %", "88 %", ">99 %", "100 %"]
    assert [decimal(value) for value in (0.154, -0.031, -0.0001, None)] == [
        "0.15",
        "−0.03",
        "0.00",
        "–",
    ]
    assert [ratio(value) for value in (1.234, 118.39)] == ["1.2", "118"]
    assert [points(value) for value in (0.101, -0.02, -0.001)] == ["+10", "−2", "+0"]


def test_the_worst_come_first_and_the_unknown_last():
    rows = [{"f1": 0.5, "outliers": 1}, {"f1": None, "outliers": None}, {"f1": 0.1, "outliers": 7}]
    assert [row["f1"] for row in worst_first(rows, "f1")] == [0.1, 0.5, None]
    assert [row["outliers"] for row in worst_first(rows, "outliers")] == [7, 1, None]


def test_every_measure_is_explained_in_one_sentence():
    for measure in MEASURES.values():
        assert measure.sentence.endswith(".") and len(measure.sentence) < 170
