"""Names of the official SSAN weights, to ours and back.

The release saves ``network`` and the classifiers ``WL`` and ``WN`` as entries of their own, and
forgets ``WG``, that of the whole. What is read here has these four as prefixes of its names.
"""

from sen_toolbox.checkpoint.aligned_parts import from_official, to_official

__all__ = ['from_official', 'to_official']
