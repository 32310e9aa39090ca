"""``open_dataset_quality``: the button above the grid that opens the panel "Dataset quality"."""

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types


class OpenDatasetQuality(foo.Operator):
    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="open_dataset_quality",
            label="Quality: open dataset quality",
            description="Open the panel that shows what the checks of this plugin have found",
            icon="fact_check",
            risk_level="low",
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        button = types.Button(label="Dataset quality", icon="fact_check", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_ACTIONS, button)

    def execute(self, ctx: Any) -> dict[str, Any]:
        ctx.ops.open_panel("dataset_quality", layout="horizontal")
        return {}
