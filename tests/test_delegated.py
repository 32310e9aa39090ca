"""Every operator as FiftyOne's delegated service runs it: progress, and a cancel between steps."""

import fiftyone.operators as foo
import pytest
from bson import ObjectId
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone_embedding_quality.storage.runs import plugin_runs


class Watched(DelegatedOperationService):
    """FiftyOne's service, which keeps what is reported, and is told to cancel at some words."""

    def __init__(self, until=None):
        super().__init__()
        self.until, self.labels, self.shares = until, [], []

    def set_progress(self, doc_id, progress):
        self.labels.append(progress.label)
        self.shares.append(progress.progress)
        done = super().set_progress(doc_id, progress)
        if self.until and self.until in progress.label:
            # What `fiftyone delegated fail ID` and the page of runs do.
            self.until = None
            self.set_failed(doc_id)
        return done


@pytest.fixture
def embedded(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    return digits


def queued(dataset, **parameters):
    audit = foo.get_operator("@embedding/quality/audit")
    return ObjectId(audit(dataset, embeddings="cnn", delegate=True, **parameters)["operation_id"])


def test_progress_of_every_step_is_reported(embedded):
    service, operation = Watched(), queued(embedded)
    service.execute_queued_operations(dataset_name=embedded.name)
    assert service.get(operation).run_state == "completed"
    assert any("neighbors" in label for label in service.labels) and len(service.labels) > 10
    assert all(0 <= share <= 1 for share in service.shares)


def test_an_operation_that_is_marked_as_failed_ends_between_steps(embedded):
    service, operation = Watched(until="nearest neighbors"), queued(embedded)
    service.execute_queued_operations(dataset_name=embedded.name)
    assert "nearest neighbors" in service.labels[-1]
    assert service.get(operation).run_state == "failed"
    assert not embedded.has_field("outliers_score")
    assert all(run.operator != "find_outliers" or not run.finished for run in plugin_runs(embedded))
    # Nothing is left that keeps the next one from its work.
    again = queued(embedded)
    Watched().execute_queued_operations(dataset_name=embedded.name)
    assert service.get(again).run_state == "completed"
    assert embedded.count("outliers_score") == 20
