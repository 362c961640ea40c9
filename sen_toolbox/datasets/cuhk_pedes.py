"""CUHK-PEDES (Li et al., CVPR 2017)."""

from pathlib import Path

from sen_toolbox.registry import DATASETS

from .layout import Counts, Layout
from .pedes import WITHOUT_SPLITS, PedesDataset


@DATASETS.register_module()
class CUHKPEDES(PedesDataset):
    """CUHK-PEDES: ``imgs`` and ``reid_raw.json``."""

    ANNOTATION_FILES = ('reid_raw.json',)
    # Counts: the paper of IRRA.
    LAYOUT = Layout(
        name='CUHK-PEDES',
        short_name='cuhk',
        root='data/CUHK-PEDES',
        published={
            'train': Counts(11003, 34054, 68126),
            'val': Counts(1000, 3078, 6158),
            'test': Counts(1000, 3074, 6156),
        },
        captions_per_image=2,
        hints={
            'missing folders': 'Some archives lack CUHK01, CUHK03, Market, test_query or '
            'train_query: ask the authors for the complete one.',
            'single images': 'CUHK-PEDES was published with 4 such persons.',
            'more captions': 'CUHK-PEDES was published with 9 such images.',
        },
    )

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder looks like a copy, or has its captions without their splits."""
        return super().recognises(root) or (root / WITHOUT_SPLITS).is_file()
