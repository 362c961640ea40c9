"""Data sets, their transforms, samplers and collation."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {
    'CUHKPEDES': 'cuhk_pedes',
    'CaptionedImages': 'custom',
    'DrawnWorld': 'drawn_world',
    'ICFGPEDES': 'icfg_pedes',
    'PedesDataset': 'pedes',
    'RSTPReid': 'rstp_reid',
    'SyntheticPedes': 'synthetic_pedes',
    'UFine6926': 'ufine',
    'collate_pairs': 'collate',
    'dataset_table': 'statistics',
}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
