"""What all operators share: one set of parameters for scripts and forms, one way to run.

An operator writes ``run`` (the work, with its parameters as keyword arguments), ``form`` (the
fields of the App's form) and ``summary`` (the result in Markdown). From these this class makes

- the call in scripts and notebooks, ``operator(dataset_or_view, embeddings="clip")``, which works
  inside a running event loop and has no time limit, because it does not go through FiftyOne's
  executor;
- the execution in the App, as a generator that shows progress and, if need be, one clear error;
- the execution by FiftyOne's executor (``foo.execute_operator``) and as a delegated operation.
"""

import functools
import inspect
import logging
import queue
import threading
import types as python_types
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.operators.types as types
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionRunState

from ..checks.card_actions import grid_labels
from ..checks.neighbors import told_of_index
from ..checks.progress import CanceledError, Progress, percent
from ..errors import UserError
from ..markup import code
from ..process import machine_fault
from .form_fields import NOT_CHOSEN, neighbors_input, show_error

# FiftyOne's own operators of the App.
SET_VIEW, OPEN_PANEL = "@voxel51/operators/set_view", "@voxel51/operators/open_panel"

# Saved views that a result offers to open.
MAX_LINKS = 4

logger = logging.getLogger(__name__)

# What a form asks for its own sake, or a panel that opens it adds: no parameters.
FORM_ONLY = {"more_options", "panel_id", "panel_state"}


class QualityOperator(foo.Operator):
    """Base of the plugin's operators."""

    name: str
    label: str
    description: str
    icon = "insights"
    risk_level = "medium"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__call__ = _call_like(cls.run)

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name=self.name,
            label=self.label,
            description=self.description,
            icon=self.icon,
            dynamic=True,
            execute_as_generator=True,
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            risk_level=self.risk_level,
        )

    def run(self, samples: Any, progress: Progress, **parameters: Any) -> dict[str, Any]:
        """Does the work on a dataset or view and returns a dict of JSON types."""
        raise NotImplementedError

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        """Adds the fields of the App's form; ``UserError`` is shown in it."""
        raise NotImplementedError

    def summary(self, result: dict[str, Any]) -> str:
        """A result in Markdown, for the App and for terminals."""
        raise NotImplementedError

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        """Buttons below the summary: a label, the operator of a click, and its parameters."""
        views = result.get("views", ())
        if result.get("flagged") == 0:
            views = [view for view in views if not view.endswith(": flagged")]
        return [(f"Show {view}", SET_VIEW, {"name": view}) for view in views[:MAX_LINKS]]

    def afterwards(self, ctx: Any) -> list[Any]:
        """What the App does when the work is done, beside loading the dataset again."""
        return []

    def samples(self, ctx: Any) -> Any:
        """What the operator works on: what the form's choice of a target says."""
        return chosen_target(ctx)

    # FiftyOne's side of the contract

    def resolve_input(self, ctx: Any) -> types.Property:
        inputs = types.Object()
        try:
            if ctx.dataset is None:
                raise UserError("Open a dataset first")
            samples = self.samples(ctx)
            self.form(ctx, samples, inputs)
            if "neighbors" in inspect.signature(self.run).parameters:
                neighbors_input(ctx, samples, inputs)
        except UserError as error:
            show_error(inputs, str(error))
        return types.Property(inputs, view=types.View(label=self.label))

    def resolve_output(self, ctx: Any) -> types.Property:
        return self._output(ctx.results or {})

    def execute(self, ctx: Any) -> Any:
        if ctx.dataset is None:
            raise UserError(f"{self.name} needs a dataset")
        # Only the App's requests carry the operator's name beside its parameters.
        from_app = "operator_uri" in ctx.request_params
        parameters = self._parameters(ctx.params, from_form=from_app)
        samples = self.samples(ctx)
        if ctx.delegated:
            return self._work_delegated(ctx, samples, parameters)
        # A script wants the result itself, the App a generator of what it shows meanwhile.
        if not from_app:
            return self._work(samples, Progress(), parameters)
        return self._stream(ctx, samples, parameters)

    def _work(self, samples: Any, progress: Progress, parameters: dict[str, Any]) -> dict[str, Any]:
        """Does the work; what the machine lacks is reported as what the user can fix."""
        try:
            result = self.run(samples, progress, **parameters)
            if (index := parameters.get("neighbors")) is not None:
                result = {**result, "neighbors": told_of_index(samples._root_dataset, index)}
            return result
        except UserError:
            raise
        except Exception as error:
            if (fault := machine_fault(error)) is None:
                raise
            raise UserError(
                f"{self.name} was interrupted: {fault}. Then run it again: what it had not "
                "finished is not shown as finished"
            ) from error

    def _work_delegated(self, ctx: Any, samples: Any, parameters: dict[str, Any]) -> dict[str, Any]:
        """Does the work until its operation is marked as failed: FiftyOne's way to cancel it."""
        service = DelegatedOperationService()
        operation_id = ctx.request_params.get("run_doc")

        def report(fraction: float, text: str) -> None:
            ctx.set_progress(fraction, text)
            operation = service.get(operation_id) if operation_id is not None else None
            if operation is not None and operation.run_state == ExecutionRunState.FAILED:
                raise CanceledError

        try:
            return self._work(samples, Progress(report), parameters)
        except CanceledError as error:
            raise UserError(
                f"{self.name} was canceled: its operation was marked as failed. Run it again: what "
                "it had not finished is not shown as finished"
            ) from error

    def _stream(self, ctx: Any, samples: Any, parameters: dict[str, Any]) -> Iterator[Any]:
        """Runs in a thread and yields what the App shows meanwhile and in the end.

        FiftyOne shows nothing of an exception that a generator raises, so there is none.
        """
        messages: queue.SimpleQueue = queue.SimpleQueue()

        def work() -> None:
            try:
                progress = Progress(lambda fraction, text: messages.put((fraction, text)))
                messages.put(self._work(samples, progress, parameters))
            except UserError as error:
                messages.put(error)
            except Exception as error:
                logger.exception("%s failed", self.name)
                messages.put(error)

        threading.Thread(target=work, name=self.name).start()
        while isinstance(message := messages.get(), tuple):
            fraction, text = message
            yield ctx.ops.set_progress(label=text, progress=fraction)
        if isinstance(message, Exception):
            text = str(message)
            if not isinstance(message, UserError):
                text = f"{self.label} failed unexpectedly ({type(message).__name__}: {text}); "
                text += "the server's log has the details"
            yield ctx.ops.notify(text, variant="error")
            outputs = types.Object()
            show_error(outputs, text)
            yield ctx.ops.show_output(types.Property(outputs).to_json(), {})
            return
        yield ctx.ops.reload_dataset()
        yield from self.afterwards(ctx)
        yield ctx.ops.show_output(self._output(message).to_json(), message)

    def _output(self, result: dict[str, Any]) -> types.Property:
        outputs = types.Object()
        if result:
            text = self.summary(result)
            if neighbors := result.get("neighbors"):
                text += (
                    f"\n- neighbors from the similarity index {code(neighbors['brain_key'])} "
                    f"({neighbors['backend']}), which finds {percent(neighbors['recall'])} of them"
                )
            outputs.md(text, name="summary")
            for number, (label, operator, params) in enumerate(self.links(result)):
                outputs.btn(
                    f"link{number}",
                    label=label,
                    icon="arrow_forward",
                    variant="outlined",
                    on_click=operator,
                    params=params,
                )
        return types.Property(outputs, view=types.View(label=self.label))

    # Parameters

    def _parameters(self, given: dict[str, Any], from_form: bool = False) -> dict[str, Any]:
        """Checks names and types against ``run`` and fills in the defaults.

        Args:
            given: the parameters by name
            from_form (False): whether an empty value means that the field was not filled in

        Raises:
            UserError: that names the parameter at fault
        """
        operator_type: Any = type(self)
        known = _run_parameters(operator_type)
        if from_form:
            given = self.from_form(dict(given))
        for name in given:
            if name not in known and name not in FORM_ONLY:
                raise UserError(f"{self.name} has no parameter {name!r}; it has {', '.join(known)}")
        parameters = {}
        for name, (hint, default) in known.items():
            value = given.get(name, default)
            if isinstance(value, str):
                value = value.strip()
            if from_form and value in ("", None, NOT_CHOSEN):
                value = default
            if value is inspect.Parameter.empty:
                raise UserError(f"{self.name} needs the parameter {name!r}")
            if value == "" and isinstance(value, str):
                optional = "" if default is inspect.Parameter.empty else "omit it or "
                raise UserError(f"{name}='' is empty; {optional}pass a value")
            parameters[name] = _checked(name, value, hint)
        return self.shown(parameters) if from_form else parameters

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        """Turns what a form asks in its own way into parameters."""
        return given

    def shown(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Leaves out what a form no longer shows, but the App still sends."""
        return parameters


def show_labels(ctx: Any) -> list[Any]:
    """For ``afterwards``: of the label fields, the grid shows those that explain nothing else."""
    labels = grid_labels(ctx.dataset)
    return [ctx.ops.set_active_fields(labels)] if labels else []


def chosen_target(ctx: Any) -> Any:
    """What the form's choice of a target says, without groups.

    FiftyOne looks for the active slice of a view that was grouped by a field, which has none, and
    fails: such a view is taken as it is, and stands for all of its samples.
    """
    target = ctx.target_view()
    if target is not None and target._is_dynamic_groups:
        return target
    return ctx.target_view(require_flat=True)


def _call_like(run: Any) -> Any:
    """The call of an operator in scripts, with the signature and documentation of its ``run``."""

    def __call__(self, samples: Any, *, delegate: bool = False, **parameters: Any) -> Any:
        if not isinstance(samples, (fo.Dataset, fo.DatasetView)):
            raise UserError(
                f"{self.name} takes a FiftyOne dataset or view first, not {type(samples).__name__}"
            )
        parameters = self._parameters(parameters)
        if not delegate:
            return self._work(samples, Progress(), parameters)
        kind = "dataset" if isinstance(samples, fo.Dataset) else "view"
        queue_it = functools.partial(
            foo.execute_operator,
            self.uri,
            {kind: samples},
            params=parameters,
            request_delegation=True,
        )
        # In a notebook's event loop the executor would return a task that hides failures.
        with ThreadPoolExecutor(1) as pool:
            operation = pool.submit(queue_it).result().result
        return {"delegated": True, "operation_id": str(operation["id"])}

    signature = inspect.signature(run)
    shown = [p for p in signature.parameters.values() if p.name != "progress"]
    delegate = inspect.Parameter(
        "delegate", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool
    )
    typed: Any = __call__
    typed.__signature__ = signature.replace(parameters=[*shown, delegate])
    text = "delegate (False): queue it for a delegated run; the result then names the operation"
    __call__.__doc__ = run.__doc__.replace(
        "\n\n        Returns:", f"\n            {text}\n\n        Returns:"
    )
    return __call__


@functools.cache
def _run_parameters(operator_type: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each keyword argument of an operator's ``run``."""
    hints = typing.get_type_hints(operator_type.run)
    parameters = inspect.signature(operator_type.run).parameters.values()
    return {
        parameter.name: (hints[parameter.name], parameter.default)
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _checked(name: str, value: Any, hint: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a NumPy scalar
    union = isinstance(hint, python_types.UnionType) or typing.get_origin(hint) is typing.Union
    allowed = typing.get_args(hint) if union else (hint,)
    for kind in allowed:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
    words = " or ".join("None" if k is type(None) else k.__name__ for k in allowed)
    raise UserError(f"{name}={value!r} must be {words}, not {type(value).__name__}")
