"""Findings for other programs: one row each as CSV, and with all facts of the runs as JSON."""

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

from .paths import without_folders

if TYPE_CHECKING:
    from ..checks.contents import Contents

# Spreadsheets take a text that begins so for a formula, and execute it; a leading apostrophe makes
# it text again (OWASP, "CSV Injection"). Those of East Asian widths are formulas there, too.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

# Says that a file was written by this plugin.
GENERATOR = "@embedding/quality export_report"


def as_rows(contents: "Contents", columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """One dict of JSON types for each finding, its file named within the dataset's folder."""
    return [
        {column: _json_type(getattr(finding, column)) for column in columns}
        for finding in without_folders(contents).findings
    ]


def as_csv(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """A table with a head; what does not apply is empty.

    A text that a spreadsheet would execute, of a label say, begins with an apostrophe here; JSON
    has it as it is.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_json(
    contents: "Contents", rows: list[dict[str, Any]], created: str, files: dict[str, str]
) -> str:
    """What was read, the facts of every run and plot, and the findings.

    Args:
        contents: what the report shows
        rows: the findings
        created: when, in ISO 8601
        files: the checksums of the other files of the report, by name
    """
    contents = without_folders(contents)
    document = {
        "generator": GENERATOR,
        "dataset": contents.dataset,
        "created": created,
        "samples": contents.num_samples,
        "files": files,
        "runs": [
            {
                "run_key": reported.run.key,
                "operator": reported.run.operator,
                "written_at": reported.run.written_at,
                "facts": reported.facts,
                "separability": reported.separability,
            }
            for reported in contents.runs
        ],
        "maps": [
            {"brain_key": one.brain_key, "facts": one.facts} for one in contents.visualizations
        ],
        "left_out": contents.left_out,
        "stale": contents.stale,
        "findings": rows,
    }
    return json.dumps(_json_type(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _json_type(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _json_type(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_type(one) for one in value]
    if hasattr(value, "items"):  # a document of the database
        return {str(key): _json_type(one) for key, one in value.items()}
    return value
