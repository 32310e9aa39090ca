"""The checks, in the order in which what they found is read."""

from .caption_issues import CAPTION_ISSUES
from .clusters import CLUSTERS
from .comparison import COMPARISON
from .contract import Check
from .description import DESCRIPTION
from .duplicates import DUPLICATES
from .embeddings import EMBEDDINGS
from .label_issue_columns import LABEL_ISSUES
from .order_effects import ORDER_EFFECTS
from .outliers import OUTLIERS
from .reduction import REDUCTION
from .selection import SELECTION
from .separability import SEPARABILITY
from .similar import SIMILAR
from .suggestions import SUGGESTIONS
from .visualization import VISUALIZATION

CHECKS: tuple[Check, ...] = (
    EMBEDDINGS,
    DESCRIPTION,
    REDUCTION,
    DUPLICATES,
    LABEL_ISSUES,
    CAPTION_ISSUES,
    OUTLIERS,
    SEPARABILITY,
    CLUSTERS,
    COMPARISON,
    SIMILAR,
    ORDER_EFFECTS,
    SUGGESTIONS,
    SELECTION,
    VISUALIZATION,
)


def check_of(operator: str) -> Check | None:
    """The check that an operator runs, or None."""
    return next((check for check in CHECKS if check.name == operator), None)
