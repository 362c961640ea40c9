"""What joins an image encoder and a text encoder."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {'DualEncoder': 'dual', 'OpenCLIPPair': 'open_clip_pair'}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
