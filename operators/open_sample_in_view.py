"""``open_sample_in_view``: what the panels do once the App shows a view that it is loading.

The App changes its view in its own time, and the fields that it draws with it. A sample that is
opened before, and that the old view does not hold, replaces the whole page by an error.
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
            description="Show fields, and open a sample, once the App shows a saved view",
            unlisted=True,
            risk_level="low",
        )

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Draws and opens, or asks again; what the App shows comes with each request."""
        if "view" not in ctx.params:
            raise UserError("open_sample_in_view needs the parameter 'view'")
        if "id" not in ctx.params and "fields" not in ctx.params:
            raise UserError("open_sample_in_view needs the parameter 'id' or 'fields'")
        if ctx.request_params.get("view_name") == ctx.params["view"]:
            if fields := ctx.params.get("fields"):
                ctx.ops.set_active_fields(fields)
            if id_ := ctx.params.get("id"):
                ctx.ops.open_sample(id=id_)
        elif (tries := ctx.params.get("tries", 1)) < MAX_TRIES:
            time.sleep(PAUSE)
            ctx.trigger(self.uri, {**ctx.params, "tries": tries + 1})
        else:
            ctx.ops.notify("The App did not open the view; choose it by its name", variant="error")
        return {}
