"""Whether the order of samples matters: calibrated on sets where it does not, and on a database."""

import datetime

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.order_effects import find_order_effects
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits
from test_forms import form

PREFIX = "@embedding/quality/"


def judge(rows, places, units=None, groups=None, seed=51):
    units = np.arange(len(rows)) if units is None else units
    graph = neighbor_graph(unit_rows(rows).rows, 10)
    return find_order_effects(graph, np.asarray(places, float), units, groups, seed)


def test_shuffled_sets_raise_no_alarm():
    """Not in more than 5 %, also where several rows are of one unit and alike."""
    digits = load_digits().data[:240]
    graph = neighbor_graph(unit_rows(digits).rows, 10)
    alone, pairs = np.arange(240), np.arange(240) // 2
    p_values = []
    for seed in range(15):
        shuffled = np.random.default_rng(seed).permutation(240).astype(float)
        p_values.append(find_order_effects(graph, shuffled, alone, seed=seed).p_value)
        p_values.append(find_order_effects(graph, shuffled[pairs], pairs, seed=seed).p_value)
    # Binomial: more than 5 of 30 at 5 % happen in less than 1 of 100 such tests.
    assert np.sum(np.array(p_values) <= 0.05) <= 5
    assert 0.3 < np.mean(p_values) < 0.7


def test_sorted_and_drifting_sets_are_told():
    digits = load_digits()
    by_class = np.argsort(digits.target[:400], kind="stable")
    found = judge(digits.data[:400][by_class], np.arange(400))
    assert found.p_value == 0.002 and found.differ and found.apart.sum() >= 8
    assert found.nearby > 1.5 * found.expected
    # Bursts: three in a row, of an otherwise shuffled set, are the same digit by one hand.
    random = np.random.default_rng(4)
    rows = np.repeat(digits.data[random.permutation(1797)[:150]], 3, axis=0)
    rows = rows + random.normal(scale=2, size=rows.shape)
    bursts = judge(rows, np.arange(450))
    assert bursts.p_value == 0.002
    # What is known to be the same image three times says nothing of the order.
    assert judge(rows, np.arange(450), groups=np.arange(450) // 3).p_value > 0.01
    # Only the last half is in the order of its classes.
    places = random.permutation(400)
    part = np.r_[places[:200], places[200:][np.argsort(digits.target[places[200:]])]]
    late = judge(digits.data[part], np.arange(400))
    assert late.differ and late.apart[5:].sum() >= 3 and not late.apart[:5].any()


def test_places_may_be_missing_and_too_few_are_refused():
    digits = load_digits().data[:100]
    places = np.arange(100.0)
    places[::2] = np.nan
    found = judge(digits, places)
    assert (found.part[::2] == -1).all() and np.bincount(found.part[1::2]).tolist() == [5] * 10
    places[20:] = np.nan
    with pytest.raises(ValueError, match="only 10 samples have a place"):
        judge(digits, places)


@pytest.fixture
def album(dataset):
    """200 digits in the order in which they were written, and a day that sorts them by digit."""
    digits = load_digits()
    day = datetime.datetime(2020, 1, 1)
    dataset.add_samples(
        [
            fo.Sample(
                f"/album/{number:03}.png",
                strokes=row.astype(np.float32),
                taken=day + datetime.timedelta(days=int(target), seconds=number),
                lens="wide",
            )
            for number, (row, target) in enumerate(zip(digits.data[:200], digits.target))
        ]
    )
    return dataset


def test_an_order_on_a_database(album, tmp_path):
    find = foo.get_operator(PREFIX + "find_order_effects")
    before = sorted(album.get_field_schema())
    params = {"embeddings": "strokes", "order_by": "taken"}
    name = PREFIX + "find_order_effects"
    result = foo.execute_operator(name, {"dataset": album}, params=params).result
    assert result["differ"] and result["p_value"] == 0.002
    assert "**The order of `taken` matters**" in find.summary(result)
    apart = album.load_saved_view("order_effects: apart")
    parts = apart.values("order_effects_part")
    assert parts == sorted(parts)
    assert set(parts) == {row["part"] for row in result["parts"] if row["apart"]}
    assert sorted(album.values("order_effects_part"))[::20] == list(range(1, 11))
    told = foo.get_operator(PREFIX + "export_report")(album, path=str(tmp_path / "page"))
    assert told["findings"]["part of the order"] == len(apart)
    assert "The order matters" in next((tmp_path / "page").glob("*.html")).read_text()
    again = find(album.shuffle(seed=1), **params)
    assert again["parts"] == result["parts"] and again["p_value"] == result["p_value"]

    def reasons():
        rows = foo.get_operator(PREFIX + "list_runs")(album)["runs"]
        return next(row["reasons"] for row in rows if row["run_key"] == "order_effects")

    assert reasons() == []
    album.limit(1).set_values("taken", [datetime.datetime(2021, 1, 1)])
    assert reasons() == ["the values in taken have changed"]
    foo.get_operator(PREFIX + "delete_run")(album, run_key="order_effects")
    assert sorted(album.get_field_schema()) == before and not album.list_saved_views()
    fields = form("find_order_effects", album)["order_by"]["type"]["values"]
    assert {"taken", "filepath"} <= set(fields)
    for bad, message in (("lens", "one value only"), ("strokes", "is a VectorField")):
        with pytest.raises(ValueError, match=f"order_by='{bad}'.*{message}"):
            find(album, embeddings="strokes", order_by=bad)
