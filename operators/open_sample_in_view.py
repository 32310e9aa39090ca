"""``open_sample_in_view``: what the panels use to open a sample of a view that the App is loading.

The App changes its view in its own time. A sample that is opened before, and that the old view does
not hold, replaces the whole page by an error.
"""

import time
from typing import Any

import fiftyone.operators as foo

from ..errors import UserError

# How often the App is asked whether it shows the view, and how long in between, in seconds.
MAX_TRIES, PAUSE = 200, 0.05


class OpenSampleInView(foo.Operator):
    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="open_sample_in_view",
            label="Quality: open sample in view",
            description="Open a sample of a saved view once the App shows that view",
            unlisted=True,
            risk_level="low",
        )

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Opens the sample, or asks again; what the App shows comes with each request."""
        for name in ("view", "id"):
            if name not in ctx.params:
                raise UserError(f"open_sample_in_view needs the parameter {name!r}")
        if ctx.request_params.get("view_name") == ctx.params["view"]:
            ctx.ops.open_sample(id=ctx.params["id"])
        elif (tries := ctx.params.get("tries", 1)) < MAX_TRIES:
            time.sleep(PAUSE)
            ctx.trigger(self.uri, {**ctx.params, "tries": tries + 1})
        else:
            ctx.ops.notify("The App did not open the view; choose it by its name", variant="error")
        return {}
