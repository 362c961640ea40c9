"""What uses a trained model: searching a gallery of people by words or pictures.

Names are imported at their first use: ``sen-search --help`` needs no torch.
"""

from sen_toolbox.lazy_names import lazy_names

HOMES = {'PersonSearch': 'person_search', 'Result': 'result', 'IndexReport': 'indexing'}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
