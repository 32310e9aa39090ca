"""Half a saved view, or half a run, as a process that was killed leaves them."""

import threading

import fiftyone as fo
import fiftyone.core.odm as foo
import fiftyone.operators as foops
import numpy as np
import pytest
from fiftyone_embedding_quality.storage.references import delete_view, save_view
from pymongo.errors import AutoReconnect


def operator(name):
    return foops.get_operator(f"@embedding/quality/{name}")


@pytest.fixture
def labeled(dataset):
    """30 samples with vectors of three classes, and a view of the user's between two runs."""
    random = np.random.default_rng(51)
    centers = random.normal(size=(3, 8)) * 5
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.png",
                vec=(centers[index % 3] + random.normal(size=8)).astype(np.float32),
                species=fo.Classification(label=f"class {index % 3}"),
            )
            for index in range(30)
        ]
    )
    find_outliers(dataset)
    dataset.save_view("mine", dataset.limit(7))
    find_label_issues(dataset)
    return dataset


def find_outliers(dataset):
    operator("find_outliers")(dataset, embeddings="vec", check_pictures=False)


def find_label_issues(dataset):
    operator("find_label_issues")(dataset, embeddings="vec", label_field="species")


def afresh(dataset):
    fo.Dataset._instances.pop(dataset.name, None)
    return fo.load_dataset(dataset.name)


def stored(dataset):
    return foo.get_db_conn().datasets.find_one({"_id": dataset._doc.id})


def test_a_view_whose_deletion_was_interrupted_costs_no_other_view(labeled):
    """FiftyOne deletes the document first, and then another view than the one named."""
    views = foo.get_db_conn().views
    views.delete_one({"_dataset_id": labeled._doc.id, "name": "outliers: flagged"})
    dataset = afresh(labeled)
    keys = {row["run_key"] for row in operator("list_runs")(dataset)["runs"]}
    assert {"outliers", "label_issues"} <= keys
    find_label_issues(dataset)
    dataset = afresh(labeled)
    assert sorted(dataset.list_saved_views()) == ["label_issues: flagged", "mine"]
    assert len(dataset.load_saved_view("mine")) == 7
    assert len(stored(dataset)["saved_views"]) == 2


def test_a_run_whose_deletion_was_interrupted_is_made_again(labeled):
    run = stored(labeled)["runs"]["outliers"]
    foo.get_db_conn().runs.delete_one({"_id": run})
    dataset = afresh(labeled)
    (row,) = (r for r in operator("list_runs")(dataset)["runs"] if r["run_key"] == "outliers")
    assert not row["finished"]
    find_outliers(dataset)
    assert stored(dataset)["runs"]["outliers"] != run
    assert afresh(labeled).has_run("outliers")


def test_documents_that_nothing_refers_to_are_swept_up(labeled):
    """Of the run that is written, and of no other: another process may be about to refer to it."""
    database, id_ = foo.get_db_conn(), labeled._doc.id
    (outliers,) = database.views.find({"_dataset_id": id_, "name": "outliers: flagged"})
    database.datasets.update_one({"_id": id_}, {"$pull": {"saved_views": outliers["_id"]}})
    database.datasets.update_one({"_id": id_}, {"$unset": {"runs.outliers": True}})
    dataset = afresh(labeled)
    find_label_issues(dataset)
    assert database.views.count_documents({"_id": outliers["_id"]}) == 1
    find_outliers(dataset)
    assert database.views.count_documents({"_id": outliers["_id"]}) == 0
    assert database.runs.count_documents({"_dataset_id": id_, "key": "outliers"}) == 1
    assert len(afresh(labeled).load_saved_view("mine")) == 7


def test_results_that_are_gone_cost_only_themselves(labeled):
    """As of a run whose deletion was interrupted after its results."""
    run = foo.get_db_conn().runs.find_one({"_id": stored(labeled)["runs"]["outliers"]})
    foo.get_db_conn()["fs.files"].delete_one({"_id": run["results"]})
    rows = operator("list_runs")(afresh(labeled))["runs"]
    assert "outliers" in {row["run_key"] for row in rows}


def test_a_dataset_whose_results_are_being_replaced_can_be_cloned(labeled, monkeypatch):
    import gridfs

    def fail(*_, **__):
        raise OSError("the connection was lost")

    monkeypatch.setattr(gridfs.GridFS, "put", fail)
    with pytest.raises(OSError):
        find_outliers(labeled)
    monkeypatch.undo()
    clone = afresh(labeled).clone()
    assert clone.has_run("outliers") and clone.load_run_results("outliers") is None
    clone.delete()
    for _ in range(2):  # without results before, and with some
        find_outliers(labeled)
        assert len(afresh(labeled).load_run_results("outliers").ids.split()) == 30


def test_a_run_that_is_being_deleted_says_so(labeled, monkeypatch):
    import sys

    package = type(operator("delete_run")).__module__.partition(".operators")[0]
    removal = sys.modules[f"{package}.storage.removal"]

    def fail(*_):
        raise OSError("the connection was lost")

    monkeypatch.setattr(removal, "delete_field", fail)
    with pytest.raises(OSError):
        operator("delete_run")(labeled, run_key="outliers")
    monkeypatch.undo()
    dataset = afresh(labeled)
    (row,) = (r for r in operator("list_runs")(dataset)["runs"] if r["run_key"] == "outliers")
    assert not row["finished"] and row["reasons"] == [
        "its deletion was interrupted; delete it again"
    ]
    find_outliers(dataset)
    (row,) = (r for r in operator("list_runs")(dataset)["runs"] if r["run_key"] == "outliers")
    assert row["finished"] and not row["stale"]


def test_views_that_are_saved_at_once_are_all_kept(dataset):
    """FiftyOne's own call loses some of them, and brings back what another process deletes."""
    ROUNDS = 25
    faults = []

    def work(own, number):
        try:
            for round_ in range(ROUNDS):
                save_view(own, f"view {number} of {round_}", own.limit(round_ + 1), "")
                if round_ % 2:
                    delete_view(own, f"view {number} of {round_}")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(afresh(dataset), i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    kept = {f"view {number} of {round_}" for number in range(4) for round_ in range(0, ROUNDS, 2)}
    assert set(afresh(dataset).list_saved_views()) == kept
    assert len(stored(dataset)["saved_views"]) == len(kept)


def test_a_database_that_dies_while_a_plot_is_deleted_leaves_a_run_to_delete(labeled, monkeypatch):
    visualize = operator("compute_visualization")
    visualize(labeled, embeddings="vec", method="pca", brain_key="plot", spatial_index=True)
    assert len(labeled.exists("plot")) == 30

    def fail(*_, **__):
        raise AutoReconnect("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(fo.Dataset, "delete_sample_field", fail)
        with pytest.raises(ValueError, match="the database does not answer"):
            operator("delete_run")(labeled, run_key="plot")
    assert "plot" in afresh(labeled).list_brain_runs()
    operator("delete_run")(afresh(labeled), run_key="plot")
    assert not afresh(labeled).has_field("plot") and not afresh(labeled).list_brain_runs()
