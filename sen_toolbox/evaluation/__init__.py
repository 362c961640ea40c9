"""Evaluation of retrieval at identity level."""

from sen_toolbox.evaluation.metric import RetrievalMetric
from sen_toolbox.evaluation.ranking import metrics_from_similarity, retrieval_metrics
from sen_toolbox.evaluation.table import metrics_table

__all__ = ['RetrievalMetric', 'metrics_from_similarity', 'metrics_table', 'retrieval_metrics']
