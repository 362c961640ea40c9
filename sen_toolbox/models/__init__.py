"""Retrievers and the parts they are assembled from."""

import sys

# open_clip imports transformers where it is installed, for towers that no part here builds, and
# that takes longer than all of open_clip. BERT imports it when it is built.
if 'transformers' not in sys.modules:
    sys.modules['transformers'] = None
    try:
        import open_clip  # noqa: F401, so that it is there for all parts
    finally:
        del sys.modules['transformers']

from .preprocessor import PairPreprocessor  # noqa: E402, only now
from .retriever import TextImageRetriever  # noqa: E402

__all__ = ['PairPreprocessor', 'TextImageRetriever']
