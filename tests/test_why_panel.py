"""The panel "Why this sample?" without a browser: events of every kind of labels and target."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

PANEL = "@embedding/quality/why_this_sample"
VIEW = "label_issues: flagged"


def event(dataset, method, open_sample, view=VIEW, state=None, **params):
    """What an event asks the App to do, by the operations' names, and what it shows as text."""
    request = {
        "dataset_name": dataset.name,
        "current_sample": open_sample,
        "view_name": view,
        "params": {"panel_id": "p", "__method__": method, "panel_state": state or {}, **params},
    }
    context = ExecutionContext(request, executor=Executor(), operator_uri=PANEL)
    foo.get_operator(PANEL).execute(context)
    asked = {one.operator_uri.rpartition("/")[2]: one.params for one in context.executor._requests}
    shown: list[str] = []
    if "show_panel_output" in asked:
        _collect(asked["show_panel_output"]["output"]["type"]["properties"], shown)
    return asked, " | ".join(shown)


def _collect(properties, shown) -> None:
    for field in properties.values():
        told = field.get("default") or (field.get("view") or {}).get("label")
        if isinstance(told, str) and not told.startswith("data:"):
            shown.append(told)
        _collect(field.get("type", {}).get("properties") or {}, shown)


def _labels(kind: str, names: list[str]):
    if kind == "labels":
        return fo.Classifications(classifications=[fo.Classification(label=n) for n in names])
    return names if kind == "texts" else int(names[0][1:])


@pytest.fixture(params=["labels", "texts", "numbers"])
def several(request, dataset):
    """200 samples with one or two labels that their embeddings tell, ten with a wrong one."""
    random = np.random.default_rng(51)
    for index in range(200):
        classes = random.integers(0, 4, 2)
        vector = random.normal(scale=0.5, size=16)
        vector[classes] += 4
        names = sorted({f"k{one}" for one in classes})
        if index < 10:
            names = [f"k{(classes[0] + 1) % 4}"]
        sample = fo.Sample(f"/none/{index}.png", vec=vector.astype(np.float32))
        sample["many"] = _labels(request.param, names)
        dataset.add_sample(sample)
    find = foo.get_operator("@embedding/quality/find_label_issues")
    find(dataset, embeddings="vec", label_field="many")
    return dataset


def test_every_kind_of_labels_is_decided_and_taken_back(several):
    before = {sample.id: sample["many"] for sample in several.iter_samples()}
    ids = several.load_saved_view(VIEW).values("id")
    _, shown = event(several, "on_load", ids[0])
    assert f"1 of {len(ids)} in `label_issues`, 0 reviewed" in shown and "Accept" in shown
    asked, shown = event(
        several, "on_decide", ids[0], id=ids[0], run_key="label_issues", decision="accept"
    )
    # The next one is drawn at once, not when the App says that it is open.
    assert asked["open_sample"]["id"] == ids[1]
    assert f"2 of {len(ids)} in `label_issues`, 1 reviewed" in shown
    # A double click decides once, and moves on once.
    asked, _ = event(
        several, "on_decide", ids[0], id=ids[0], run_key="label_issues", decision="accept"
    )
    assert asked["open_sample"]["id"] == ids[1] and "notify" not in asked
    _, shown = event(several, "on_change_current_sample", ids[0])
    assert "the suggestion was accepted" in shown and " → " in shown
    several.reload()
    assert several[ids[0]]["many"] != before[ids[0]]
    asked, _ = event(several, "on_undo", ids[1], id=ids[1])
    assert asked["open_sample"]["id"] == ids[0]
    several.reload()
    assert {sample.id: sample["many"] for sample in several.iter_samples()} == before


def test_a_late_click_decides_about_nothing(several):
    first, second = several.load_saved_view(VIEW).values("id")[:2]
    asked, _ = event(
        several, "on_decide", second, id=first, run_key="label_issues", decision="keep"
    )
    assert "Another sample has been opened since" in asked["notify"]["message"]
    assert "open_sample" not in asked
    several.reload()
    assert several.get_field("label_issues_review") is None


def test_set_needs_a_label_of_this_sample(several):
    first, second = several.load_saved_view(VIEW).values("id")[:2]
    asked = {"id": first, "run_key": "label_issues", "decision": "set"}
    # What was typed for another sample is not set on this one.
    state = {f"choice_{second}": {"label": "k1"}}
    told, _ = event(several, "on_decide", first, state=state, **asked)
    assert told["notify"]["message"] == "Choose the label to set first"


def test_what_is_gone_or_unknown_is_said(several):
    _, shown = event(several, "on_load", "0123456789abcdef01234567")
    assert "Refresh" in shown
    _, shown = event(several, "on_load", None, view=None)
    assert "to review" in shown
    foo.get_operator("@embedding/quality/delete_run")(several, run_key="label_issues")
    _, shown = event(several, "on_load", several.first().id, view=None)
    assert "No results yet" in shown


def test_a_view_of_a_part_of_the_queue_is_gone_through_alone(dataset):
    random = np.random.default_rng(51)
    for index in range(200):
        place = index % 4
        vector = random.normal(scale=0.5, size=16)
        vector[place] += 4
        # Of each class the first five have the name of the next one.
        name = f"k{place if index >= 20 else (place + 1) % 4}"
        sample = fo.Sample(f"/none/{index}.png", vec=vector.astype(np.float32))
        sample["one"] = fo.Classification(label=name)
        dataset.add_sample(sample)
    find = foo.get_operator("@embedding/quality/find_label_issues")
    result = find(dataset, embeddings="vec", label_field="one")
    pair = result["pair_views"][0]
    ids = dataset.load_saved_view(pair["name"]).values("id")
    assert 3 <= len(ids) == pair["count"] < result["flagged"]
    seen = [ids[0]]
    for _ in ids[1:]:
        asked, _ = event(
            dataset, "on_decide", seen[-1], pair["name"],
            id=seen[-1], run_key="label_issues", decision="accept",
        )  # fmt: skip
        seen.append(asked["open_sample"]["id"])
    assert sorted(seen) == sorted(ids)
    asked, _ = event(
        dataset, "on_decide", seen[-1], pair["name"],
        id=seen[-1], run_key="label_issues", decision="accept",
    )  # fmt: skip
    assert "open_sample" not in asked
    dataset.reload()
    assert dataset.count_values("label_issues_review")["accepted"] == len(ids)


def test_a_view_that_the_app_is_loading_is_waited_for(several):
    """From elsewhere the open sample is closed first, and the next one opened once it is held."""
    ids = several.load_saved_view(VIEW).values("id")
    other = next(id_ for id_ in several.values("id") if id_ not in ids)
    asked, _ = event(several, "on_other", other, view=None, run_key="label_issues")
    assert "close_sample" in asked and "open_sample" not in asked
    assert asked["set_view"]["name"] == VIEW
    wanted = asked["open_sample_in_view"]
    fields = ["many", "label_issues_suggested"]
    assert wanted == {"id": ids[0], "view": VIEW, "fields": fields}
    uri = "@embedding/quality/open_sample_in_view"
    for shown, expected in ((None, "open_sample_in_view"), (VIEW, "open_sample")):
        request = {"dataset_name": several.name, "view_name": shown, "params": wanted}
        context = ExecutionContext(request, executor=Executor(), operator_uri=uri)
        foo.get_operator(uri).execute(context)
        *drawn, request = context.executor._requests
        assert [one.params["fields"] for one in drawn] == [fields] * bool(shown)
        assert request.operator_uri.rpartition("/")[2] == expected
        assert request.params["id"] == ids[0]


def test_undo_in_another_view_goes_back_to_the_one_that_holds_the_sample(several):
    ids = several.load_saved_view(VIEW).values("id")
    event(several, "on_decide", ids[0], id=ids[0], run_key="label_issues", decision="keep")
    several.save_view("others", several.exclude(ids))
    other = several.load_saved_view("others").first().id
    asked, _ = event(several, "on_undo", other, view="others")
    assert "open_sample" not in asked and asked["set_view"]["name"] == VIEW
    assert asked["open_sample_in_view"]["id"] == ids[0]
    several.reload()
    assert several[ids[0]]["label_issues_review"] is None
