"""Names of the official SSAN weights, to ours and back: those of its levels alone."""

from sen_toolbox.checkpoint.aligned_parts import ENTRIES, MAY_LACK, from_official, to_official

__all__ = ['ENTRIES', 'MAY_LACK', 'from_official', 'to_official']
