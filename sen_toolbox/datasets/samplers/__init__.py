"""Samplers: which items make a batch."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {
    'HardBatchSampler': 'hard_batches',
    'IdentityGroupSampler': 'identity_groups',
    'share_of_rank': 'sharing',
}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
