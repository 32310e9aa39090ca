"""Every parameter of every operator: what is wrong with it is refused by its name."""

import inspect
import types
import typing

import pytest
from battery import (
    ENTRIES,
    OPERATORS,
    call,
    called,
    entry,
    execute,
    known,
    operator,
    parameters_of,
    prepare,
    quick,
)
from forms import dataset as labeled
from killing import State, differences

NAN, INFINITE = float("nan"), float("inf")

# What no field can be called; and what no field here is called.
UNUSABLE = ("", " ", "a.b", "a b", "$x", "1a", "naïve", "<b>", "x\0", "a" * 200)
UNKNOWN = ("", " ", "absent", "a..b", ".", "$x", "vec.", ".vec", "vec.absent", "x\0", "naïve, <b>")
NO_FIELD = (*UNKNOWN, "note.absent", "filepath", "_id", "metadata")

# What is refused, by parameter; parameters that are True or False need none.
REFUSED = {
    "action": ("burn", ""),
    "around": ("absent", [], [1], ["absent"], ""),
    "batch_size": (0, -1),
    "brain_key": UNUSABLE[2:],
    "by": NO_FIELD,
    "decision": ("maybe", ""),
    "device": ("abacus", "cuda:99"),
    "embeddings": NO_FIELD,
    "engine": ("abacus", ""),
    "field": UNUSABLE[2:],
    "implementation": ("magic", ""),
    "keep": ("biggest", ""),
    "label": ([], [[]], ""),
    "label_field": NO_FIELD,
    "method": ("compass", ""),
    "min_dist": (-0.1, 1.5, NAN, INFINITE),
    "min_size": (0, -1),
    "model": ("absent", "timm:absent", "open_clip:absent", "zoo:absent", ""),
    "n_neighbors": (0, 1, -5),
    "neighbors": ("absent", "", "two words"),
    "names": ("absent", "", [], [1], [""]),
    "metric": ("absent", ""),
    "num_dims": (0, 1, 4, -2),
    "of": ("", " ", "two\nlines", "x" * 501),
    "num_samples": (0, -1, -0.5, NAN, INFINITE, 2.5),
    "options": ({"absent": 1},),
    "order_by": (*UNKNOWN, "note.absent", "_id", "metadata", "vec"),
    "other": UNKNOWN,
    "overwrite": (),
    "patches_field": NO_FIELD,
    "path": (),
    "perplexity": (0, -1, NAN, INFINITE),
    "precision": (0, -1, 1.5, NAN, INFINITE),
    "predictions_field": NO_FIELD,
    "remove": NO_FIELD,
    "run_key": UNUSABLE[2:],
    "run_keys": (["absent"], "absent", [1]),
    "seed": (-1, 2**32, 2**70),
    "similar_to": ("", " ", "/absent.png", "/", "\0"),
    "similarity_index": UNUSABLE[2:],
    "split": (*NO_FIELD, [], [1]),
    "start_from": ("absent", [], [1], ["absent"]),
    "strategy": ("best", ""),
    "text_embeddings": NO_FIELD,
    "text_field": tuple(one for one in NO_FIELD if one != "filepath"),  # which is a text
    "text_side": ("", "open_clip:ViT-B-32", "two\nlines"),
    "threshold": ("absent", "", 0, 1, 2, -1, NAN, INFINITE, "nan"),
    "weights": ("/absent.pt", "", "\0"),
}

# Where a parameter names something that is made, anything that can be made is right. An audit
# leaves out what a model would have done that cannot be loaded, and says why.
REFUSED_OF = {
    ("reduce_embeddings", "num_dims"): (0, -2, 10_000),
    ("describe_embeddings", "model"): ("", " ", "two\nlines", "x" * 501),
    ("audit", "embeddings"): UNUSABLE,
    ("audit", "model"): ("absent", "absent:absent", "timm:", ""),
    ("compute_embeddings", "embeddings"): UNUSABLE,
}

# What else must be given for a parameter to count.
BESIDE = {
    "min_dist": {"method": "umap"},
    "n_neighbors": {"method": "umap"},
    "options": {"method": "umap", "implementation": "umap-learn"},
    "implementation": {"method": "umap"},
    "perplexity": {"method": "tsne"},
    "label": {"decision": "set"},
    "around": {"strategy": "around"},
}


def parameters() -> list[tuple[str, str]]:
    return [(name, one) for name in called() for one in known(name) if one != "delegate"]


def hints(name: str, parameter: str) -> tuple[type, ...]:
    hint = inspect.signature(type(operator(name)).__call__).parameters[parameter].annotation
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


@pytest.fixture(scope="module")
def shelf():
    made = labeled()
    for name in ("find_duplicates", "find_label_issues", "find_outliers"):
        prepare(name, made)
        operator(name)(made, **parameters_of(name, made))
    prepare("find_similar", made)
    made.reload()
    before = State.of(made)
    yield made
    made.reload()
    # What is refused has changed nothing.
    assert differences(before, State.of(made)) == []
    made.delete()


def refused(shelf, name, parameter, value):
    given = {**parameters_of(name, shelf), **BESIDE.get(parameter, {}), parameter: value}
    answer = call(name, shelf, **given)
    told = f"{name}({parameter}={value!r})"
    if answer.fault is not None:
        return f"{told}: {answer.fault.strip().splitlines()[-1]}"
    if answer.refusal is None:
        return f"{told} was done: {str(answer.result)[:120]}"
    if parameter not in answer.refusal:
        return f"{told} is not named: {answer.refusal[:160]}"
    return None


@pytest.mark.parametrize("every", quick([False, True], [False]))
@pytest.mark.parametrize("name, parameter", parameters())
def test_out_of_range(shelf, name, parameter, every):
    if hints(name, parameter) == (bool,):
        return
    assert parameter in REFUSED, f"{parameter} of {name} has no values that are out of range"
    values = REFUSED_OF.get((name, parameter), REFUSED[parameter])
    if not every:  # the first, one in the middle and the last
        values = values[:: max(len(values) // 2, 1)]
    told = [refused(shelf, name, parameter, value) for value in values]
    assert not any(told), "\n".join(filter(None, told))


@pytest.mark.parametrize("name, parameter", parameters())
def test_mistyped(shelf, name, parameter):
    wrong = [one for one in (object(), {1: 2}, [[]], b"vec", 1j, "1", 1, 2.5, True, None)]
    kinds = hints(name, parameter)
    numbers = {float: (int, float)}
    allowed = tuple(
        one for kind in kinds for one in numbers.get(kind, (kind,)) if isinstance(one, type)
    )
    wrong = [
        one
        for one in wrong
        if not isinstance(one, allowed) or (isinstance(one, bool) and bool not in allowed)
    ]
    told = [refused(shelf, name, parameter, value) for value in wrong]
    assert not any(told), "\n".join(filter(None, told))


@pytest.mark.parametrize("name", called())
def test_unknown_and_missing(shelf, name):
    assert refused(shelf, name, "no_such_thing", 1) is None
    for parameter, one in known(name).items():
        if one.default is not inspect.Parameter.empty:
            continue
        given = parameters_of(name, shelf)
        given.pop(parameter)
        answer = call(name, shelf, **given)
        assert answer.refusal and repr(parameter) in answer.refusal, answer
    assert entry(name)


@pytest.mark.parametrize("name", called())
@pytest.mark.parametrize("samples", [None, "name", [], 3])
def test_no_dataset(name, samples):
    answer = call(name, samples)
    assert answer.refusal and "takes a FiftyOne dataset or view" in answer.refusal, answer


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in called()])
def test_what_the_app_calls_names_what_is_missing(shelf, name):
    given = parameters_of(name, shelf)
    for parameter in ENTRIES[name].parameters:
        rest = {key: value for key, value in given.items() if key != parameter}
        answer = execute(name, shelf, **rest)
        assert answer.refusal and repr(parameter) in answer.refusal, answer
