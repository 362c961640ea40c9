"""Retrievers and the parts they are assembled from."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {'PairPreprocessor': 'preprocessor', 'TextImageRetriever': 'retriever'}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
