"""open_clip for the few parts that are built of it; importing it takes as long as torch.

It imports transformers where that is installed, for towers that no part here builds, and that takes
longer than all of open_clip. BERT imports it when it is built.
"""

import sys

if 'transformers' not in sys.modules:
    sys.modules['transformers'] = None  # type: ignore[assignment]  # as Python documents it
    try:
        import open_clip
    finally:
        del sys.modules['transformers']
else:
    import open_clip

__all__ = ['open_clip']
