"""Every operator on every form of dataset and view: a result, or a refusal that says why."""

import fiftyone as fo
import pytest
from battery import OPERATORS, call, entry, execute, parameters_of, prepare, quick
from forms import FORMS

# Most of these are refused, which costs little.
QUICK = ("empty dataset", "empty view", "clips", "point clouds", "counted by mongo")


@pytest.fixture(scope="module", params=quick(FORMS, QUICK))
def form(request):
    """One form for all operators, one after the other."""
    before = set(fo.list_datasets())
    yield FORMS[request.param]()
    for name in set(fo.list_datasets()) - before:
        fo.delete_dataset(name)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_form(form, name):
    view, patches = form
    for answer in prepare(name, view, patches):
        assert answer.fault is None, answer.fault
    answer = execute(name, view, **parameters_of(name, view, patches))
    assert answer.fault is None, answer.fault
    # What the form refuses, the call may reach all the same.
    if answer.refusal is not None and not entry(name).app:
        answer = call(name, view, **parameters_of(name, view, patches))
        assert answer.fault is None, answer.fault
