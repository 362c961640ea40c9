"""UFine6926 (Zuo et al., CVPR 2024)."""

from sen_toolbox.registry import DATASETS

from .layout import Counts, Layout
from .pedes import PedesDataset


@DATASETS.register_module()
class UFine6926(PedesDataset):
    """UFine6926: ``images`` and ``UFine6926_Annotations_1024.json``, or without ``_1024``.

    Paths in the annotations begin with ``images/``, and the folder lies beside them, where ICL's
    public code looks for it. Captions have 80.8 words on average, more than the 77 tokens of CLIP:
    see ``context_length`` of ``CLIPTextTransformer``.
    """

    ANNOTATION_FILES = ('UFine6926_Annotations_1024.json', 'UFine6926_Annotations.json')
    IMAGE_FOLDER = ''
    EMPTY_SPLIT_HINTS = {'val': 'no validation split of UFine6926 is known; use test, and say so'}
    LAYOUT = Layout(
        name='UFine6926',
        short_name='ufine',
        root='data/UFine6926',
        published={'all': Counts(6926, 26206, 52412)},
        captions_per_image=2,
    )
