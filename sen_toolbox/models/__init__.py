"""Retrievers and the parts they are assembled from."""

from .preprocessor import PairPreprocessor
from .retriever import TextImageRetriever

__all__ = ['PairPreprocessor', 'TextImageRetriever']
