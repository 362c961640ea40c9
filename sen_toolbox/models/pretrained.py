"""Loads the pretrained weights of one encoder from a local file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.values import check_dense, weights_in


def find_weights(pretrained: str, part: str, wanted: str) -> Path:
    """The file ``pretrained``.

    Args:
        pretrained: Path of the file.
        part: Which part of the backbone they are for, for the error.
        wanted: The published file that belongs there, for the error.

    Raises:
        FileNotFoundError: If there is no such file; says which to put where.
    """
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    raise FileNotFoundError(
        f'there are no weights at {path} for {part}: put {wanted} there, or set pretrained to its '
        'path, or to None for random weights'
    )


def read_weights(path: Path, part: str) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a file, and whether it is a checkpoint of this toolbox.

    Of such a checkpoint only one encoder is taken. A ``state_dict`` or ``model`` entry is opened
    and a ``module.`` prefix removed.

    Args:
        path: A file written by ``torch.save``, or safetensors.
        part: Name of the part in the backbone.

    Raises:
        ValueError: If it is truncated or holds other things than tensors.
    """
    content = load_checkpoint_file(str(path), map_location='cpu')
    state = weights_in(content, path, ('state_dict', 'model'))
    prefix = f'backbone.{part}.'
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if own:
        return own, True
    state = {k.removeprefix('module.'): v for k, v in state.items() if isinstance(v, Tensor)}
    check_dense(state, path)
    return state, False


def load_weights(
    encoder: nn.Module, state: Mapping[str, Tensor], path: Path, unused: tuple[str, ...] = ()
) -> None:
    """Loads the tensors into the encoder and logs which of them it has no use for.

    Args:
        encoder: Gets the weights; every tensor of it must be there, in its shape.
        state: Tensors by name.
        path: Where they are from.
        unused: Beginnings of names that may stand in the file and are left out.

    Raises:
        ValueError: If other keys or the shapes do not match; names them.
    """
    left_out = sorted(key for key in state if key.startswith(unused)) if unused else []
    state = {key: value for key, value in state.items() if key not in set(left_out)}
    check_keys(encoder, state, path)
    encoder.load_state_dict(state)
    print_log(
        f'{type(encoder).__name__}: {len(state)} tensors from {path}, '
        f'without use for {", ".join(left_out) or "none"}',
        logger='current',
    )


def load_pretrained(
    encoder: nn.Module,
    part: str,
    wanted: str,
    convert: Callable[[dict[str, Tensor], bool], Mapping[str, Tensor]] | None = None,
    unused: tuple[str, ...] = (),
) -> None:
    """Loads the file ``encoder.pretrained``, if there is to be one.

    Args:
        encoder: Gets the weights.
        part: Which part of the backbone it is.
        wanted: The published file that belongs there, for the error.
        convert: What the tensors of a file are called here, and whether they are of a checkpoint of
            this toolbox; None where files have our names.
        unused: Beginnings of names that may stand in the file and are left out.

    Raises:
        FileNotFoundError: If there is no such file; says which to get.
        ValueError: If other keys or the shapes do not match; names them.
    """
    if encoder.pretrained is None:
        return
    path = find_weights(encoder.pretrained, part, wanted)
    state, is_ours = read_weights(path, part)
    load_weights(encoder, convert(state, is_ours) if convert else state, path, unused)
