"""Opens whatever a model is kept in."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sen_toolbox.hub import check_architecture, check_hub_name, is_hub_name
from sen_toolbox.inference.used_models import remember

if TYPE_CHECKING:
    from sen_toolbox.inference.encoder import Encoder
    from sen_toolbox.inference.onnx_encoder import OnnxEncoder

# Trained on drawn people: shows how all this works, and finds colours of clothes on real ones.
SHIPPED_MODEL = Path(__file__).parent / 'models' / 'tiny.safetensors'


def import_parts(modules: Sequence[str]) -> None:
    """Imports modules of the current folder or of installed packages, so that they register parts.

    A model file names its parts and may not say what to import: that would run code.

    Raises:
        ModuleNotFoundError: If there is none.
    """
    if modules and '' not in sys.path:
        sys.path.insert(0, '')
    for name in modules:
        import_module(name)


def load_encoder(
    model: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str = 'cpu',
    download: bool = True,
) -> 'Encoder | OnnxEncoder':
    """The encoder of a model file, or of a config and its checkpoint; None for the shipped model.

    Args:
        model: A model file, an exported one (``.onnx``), a config, or a model of open_clip by name
            (``open_clip:NAME/TAG``, ``hf-hub:ORG/NAME``), which is remembered as used.
        checkpoint: Checkpoint of the config, or such a name.
        device: Where to compute.
        download: Whether what the cache lacks of a model by name may be downloaded.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or does not fit, or there is no model of this name.
    """
    if is_hub_name(model):
        if checkpoint is not None:
            raise ValueError(f'{model} has weights already; leave out the checkpoint')
        check_hub_name(str(model))
        check_architecture(str(model))
        from sen_toolbox.inference.encoder import Encoder
        from sen_toolbox.inference.hub_model import load_hub_model

        name, retriever, processor = load_hub_model(str(model), download=download)
        remember(name)
        return Encoder(retriever, processor, name=name, device=device)
    if model is not None and Path(model).suffix == '.onnx':
        if checkpoint is not None:
            raise ValueError(f'{model} holds weights already; leave out the checkpoint')
        from sen_toolbox.inference.onnx_encoder import OnnxEncoder

        return OnnxEncoder(Path(model), device=device)
    # Imported here because they load torch, which an exported model does without.
    from sen_toolbox.inference.encoder import Encoder
    from sen_toolbox.inference.model_file import load_model

    loaded = load_model(
        os.fspath(model or SHIPPED_MODEL), None if checkpoint is None else os.fspath(checkpoint)
    )
    return Encoder(
        loaded.model,
        loaded.processor,
        name=loaded.name,
        device=device,
        usual_scores=loaded.usual_scores,
    )
