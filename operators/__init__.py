"""What a user runs: one operator per file, each with its form, its work and its summary."""

from .audit import Audit
from .compare_datasets import CompareDatasets
from .compute_embeddings import ComputeEmbeddings
from .compute_separability import ComputeSeparability
from .compute_visualization import ComputeVisualization
from .delete_run import DeleteRun
from .describe_embeddings import DescribeEmbeddings
from .export_report import ExportReport
from .find_caption_issues import FindCaptionIssues
from .find_clusters import FindClusters
from .find_duplicates import FindDuplicates
from .find_label_issues import FindLabelIssues
from .find_order_effects import FindOrderEffects
from .find_outliers import FindOutliers
from .find_similar import FindSimilar
from .list_runs import ListRuns
from .open_dataset_quality import OpenDatasetQuality
from .open_sample_in_view import OpenSampleInView
from .reduce_embeddings import ReduceEmbeddings
from .remove_redundant import RemoveRedundant
from .review_label_issues import ReviewLabelIssues
from .review_suggestions import ReviewSuggestions
from .select_samples import SelectSamples
from .suggest_labels import SuggestLabels
from .update_audit import UpdateAudit

OPERATORS = (
    Audit,
    UpdateAudit,
    ExportReport,
    ComputeEmbeddings,
    ComputeVisualization,
    ReduceEmbeddings,
    DescribeEmbeddings,
    FindDuplicates,
    FindOutliers,
    FindCaptionIssues,
    FindLabelIssues,
    ReviewLabelIssues,
    RemoveRedundant,
    ComputeSeparability,
    FindClusters,
    CompareDatasets,
    FindSimilar,
    FindOrderEffects,
    SelectSamples,
    SuggestLabels,
    ReviewSuggestions,
    ListRuns,
    DeleteRun,
    OpenDatasetQuality,
    OpenSampleInView,
)
