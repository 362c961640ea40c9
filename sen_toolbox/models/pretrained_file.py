"""Which file ``pretrained`` of an encoder of open_clip means."""

from pathlib import Path

from mmengine.logging import print_log

from sen_toolbox.hub import find_model, is_hub_name
from sen_toolbox.models.open_clip_config import open_clip_config
from sen_toolbox.models.openai_weights import find_openai

# What ``pretrained='shipped'`` reads: ``<architecture>.safetensors``.
SHIPPED = Path(__file__).with_name('towers')


def find_pretrained(pretrained: str, arch: str | dict) -> Path:
    """The file of ``pretrained``.

    Args:
        pretrained: 'openai' (found locally or downloaded), 'shipped' (with this package), a model
            by name (``open_clip:NAME/TAG``, ``hf-hub:ORG/NAME``) or a path.
        arch: open_clip's name of the model; no dict for the first two.

    Raises:
        FileNotFoundError: If there is no such file; says which file to put where.
        ValueError: If there is no model of this name, or it has another activation.
    """
    if pretrained == 'shipped':
        return _shipped(arch)
    if is_hub_name(pretrained):
        return _named(pretrained, arch)
    if pretrained != 'openai':
        path = Path(pretrained).expanduser()
        if path.is_file():
            return path
        raise FileNotFoundError(
            f'there are no CLIP weights at {path}; put the file there, or set pretrained to '
            f'another file, to "openai", or to None for random weights'
        )
    return find_openai(arch)


def _named(name: str, arch: str | dict) -> Path:
    """The weights of a model by name, if they belong to a network with such an activation."""
    found = find_model(name)
    theirs = found.config.get('quick_gelu', False)
    # Shapes do not tell: the weights would load, and compute something else.
    if open_clip_config(arch).get('quick_gelu', False) != theirs:
        raise ValueError(
            f'{name} was trained {"with" if theirs else "without"} QuickGELU and {arch!r} is the '
            f'other: open_clip has each such architecture with and without "-quickgelu"'
        )
    pixels = [f'{k} {found.preprocess[k]}' for k in ('mean', 'std') if k in found.preprocess]
    print_log(f'{name} was trained on pixels of {", ".join(pixels)}', logger='current')
    return found.weights


def _shipped(arch: str | dict) -> Path:
    names = sorted(path.stem for path in SHIPPED.glob('*.safetensors'))
    if arch not in names:
        raise FileNotFoundError(
            f'no towers of {arch!r} are shipped, those of {", ".join(names)} are; set pretrained '
            'to a file, or to None for random weights'
        )
    return SHIPPED / f'{arch}.safetensors'
