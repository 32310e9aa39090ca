"""What a user runs: one operator per file, each with its form, its work and its summary."""

from .audit import Audit
from .compute_embeddings import ComputeEmbeddings
from .compute_separability import ComputeSeparability
from .compute_visualization import ComputeVisualization
from .delete_run import DeleteRun
from .export_report import ExportReport
from .find_duplicates import FindDuplicates
from .find_label_issues import FindLabelIssues
from .find_outliers import FindOutliers
from .list_runs import ListRuns
from .open_dataset_quality import OpenDatasetQuality
from .remove_redundant import RemoveRedundant
from .review_label_issues import ReviewLabelIssues
from .update_audit import UpdateAudit

OPERATORS = (
    Audit,
    UpdateAudit,
    ExportReport,
    ComputeEmbeddings,
    ComputeVisualization,
    FindDuplicates,
    FindOutliers,
    FindLabelIssues,
    ReviewLabelIssues,
    RemoveRedundant,
    ComputeSeparability,
    ListRuns,
    DeleteRun,
    OpenDatasetQuality,
)
