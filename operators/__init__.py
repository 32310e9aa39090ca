"""What a user runs: one operator per file, each with its form, its work and its summary."""

from .compute_embeddings import ComputeEmbeddings
from .compute_visualization import ComputeVisualization

OPERATORS = (ComputeEmbeddings, ComputeVisualization)
