"""Names of the official BEAT weights, to ours and back.

They are those of aligned parts and of the projections. What is read here has ``network.``,
``WG.``, ``WL.`` and ``WN.`` before its names; the release saves no ``WG``. Those of BERT are not
known: no weights were published.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sen_toolbox.checkpoint import aligned_parts
from sen_toolbox.checkpoint.renaming import used_tensors

LEVELS = {'global': 'whole', 'local': 'local', 'non_local': 'non_local'}
SPACES = {'I2T': 'to_text', 'T2I': 'to_image'}
LAYERS = {'0': 'narrow', '2': 'widen'}
PROJECTION = re.compile(r'^network\.(global|local|non_local)_(I2T|T2I)\.(\d+)\.([02])\.weight$')


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames official tensors, in float32, and joins those of all parts and all projections.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    rest: dict[str, Tensor] = {}
    projections: dict[str, dict[int, Tensor]] = {}
    for key, value in used_tensors(state).items():
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
    return aligned_parts.from_official(rest) | joined


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`from_official`.

    Args:
        state: Tensors of a BEAT of this toolbox, but those of BERT.
        model: The model; not read.

    Raises:
        ValueError: Names the keys that the table does not know.
    """
    rest, official = dict(state), {}
    for level, ours in LEVELS.items():
        for space, there in SPACES.items():
            for layer, name in LAYERS.items():
                copies = rest.pop(f'heads.parts.{there}.{ours}.{name}')
                for number, copy in enumerate(copies):
                    official[f'network.{level}_{space}.{number}.{layer}.weight'] = copy[..., None]
    return aligned_parts.to_official(rest, model) | official
