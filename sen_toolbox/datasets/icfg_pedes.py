"""ICFG-PEDES (Ding et al., arXiv:2107.12666)."""

from sen_toolbox.registry import DATASETS

from .layout import Counts, Layout
from .pedes import PedesDataset


@DATASETS.register_module()
class ICFGPEDES(PedesDataset):
    """ICFG-PEDES: ``imgs`` and ``ICFG-PEDES.json``, or one of its other two spellings."""

    ANNOTATION_FILES = ('ICFG-PEDES.json', 'ICFG_PEDES.json', 'ICFG-PDES.json')
    EMPTY_SPLIT_HINTS = {
        'val': 'ICFG-PEDES was published without a validation split; use test, and say so'
    }
    # Counts: the paper of IRRA.
    LAYOUT = Layout(
        name='ICFG-PEDES',
        short_name='icfg',
        root='data/ICFG-PEDES',
        published={'train': Counts(3102, 34674, 34674), 'test': Counts(1000, 19848, 19848)},
        captions_per_image=1,
        hints={
            'missing folders': 'The folders train and test come from MSMT17 and hold images of '
            'both splits: unpack both.'
        },
    )
