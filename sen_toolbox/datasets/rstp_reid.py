"""RSTPReid (Zhu et al., ACM MM 2021)."""

from sen_toolbox.registry import DATASETS

from .layout import Counts, Layout
from .pedes import PedesDataset


@DATASETS.register_module()
class RSTPReid(PedesDataset):
    """RSTPReid: ``imgs`` and ``data_captions.json``."""

    ANNOTATION_FILES = ('data_captions.json',)
    PATH_KEY = 'img_path'
    # Counts: the paper of IRRA; of the first release, its repository, issue 2.
    LAYOUT = Layout(
        name='RSTPReid',
        short_name='rstp',
        root='data/RSTPReid',
        published={
            'train': Counts(3701, 18505, 37010),
            'val': Counts(200, 1000, 2000),
            'test': Counts(200, 1000, 2000),
        },
        superseded={
            'train': Counts(3901, 19505, 39010),
            'val': Counts(100, 500, 1000),
            'test': Counts(100, 500, 1000),
        },
        captions_per_image=2,
        hints={
            kind: 'RSTPReid was published with them.'
            for kind in ('shared captions', 'foreign characters', 'code')
        },
    )
