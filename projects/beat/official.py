"""Names of the official BEAT weights, to ours and back.

They are those of aligned parts, of BERT and of the projections.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint import aligned_parts
from sen_toolbox.checkpoint.aligned_parts import ENTRIES, MAY_LACK
from sen_toolbox.checkpoint.renaming import inverse, rename, used_tensors

__all__ = ['ENTRIES', 'MAY_LACK', 'from_official', 'to_official']

BERT = (('network.TextExtract.language_model.textExtractor.', 'backbone.text.bert.'),)
# Saved and never used.
UNUSED = ('network.TextExtract.language_model.textExtractor.pooler.',)
LEVELS = {'global': 'whole', 'local': 'local', 'non_local': 'non_local'}
SPACES = {'I2T': 'to_text', 'T2I': 'to_image'}
LAYERS = {'0': 'narrow', '2': 'widen'}
PROJECTION = re.compile(r'^network\.(global|local|non_local)_(I2T|T2I)\.(\d+)\.([02])\.weight$')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, and joins those of all parts and all projections."""
    state = used_tensors(state, UNUSED)
    bert = {key: state.pop(key) for key in list(state) if key.startswith(BERT[0][0])}
    rest: dict[str, Tensor] = {}
    projections: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        if found := PROJECTION.match(key):
            level, space, number, layer = found.groups()
            ours = f'heads.parts.{SPACES[space]}.{LEVELS[level]}.{LAYERS[layer]}'
            projections.setdefault(ours, {})[int(number)] = value.squeeze(2)
        else:
            rest[key] = value
    joined = {
        key: torch.stack([copies[number] for number in sorted(copies)])
        for key, copies in projections.items()
    }
    return aligned_parts.from_official(rest) | rename(bert, BERT) | joined


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`, without BERT's pooler, which the release does not use."""
    rest = dict(state)
    bert = {key: rest.pop(key) for key in state if key.startswith(BERT[0][1])}
    official = rename(bert, inverse(BERT))
    for level, ours in LEVELS.items():
        for space, there in SPACES.items():
            for layer, name in LAYERS.items():
                copies = rest.pop(f'heads.parts.{there}.{ours}.{name}')
                for number, copy in enumerate(copies):
                    official[f'network.{level}_{space}.{number}.{layer}.weight'] = copy[..., None]
    return aligned_parts.to_official(rest, model) | official
