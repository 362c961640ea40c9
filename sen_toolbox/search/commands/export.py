"""Write both towers of a model as one ONNX file, which onnxruntime computes without torch.

  sen-search export person.onnx --model sen.safetensors
  sen-search query "a man in a black jacket" --model person.onnx

An index made with the model is searched with its export too. With --int8 the file and the time of
a query are about a third; it is another model, so index with it, and compare what it finds.
Needs pip install "sen-toolbox[onnx]".
"""

import argparse

from sen_toolbox.search.commands.common import add_model_arguments, say
from sen_toolbox.search.targets import check_target

HELP = 'write the model as an ONNX file'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument('out', metavar='MODEL.onnx', help='the file to write')
    parser.add_argument('--int8', action='store_true', help='8 bits for the linear layers')
    add_model_arguments(parser.add_argument_group('model'))


def run(args: argparse.Namespace) -> int:
    """Exports; returns the exit code."""
    from sen_toolbox.inference.encoder import Encoder
    from sen_toolbox.inference.loading import import_parts, load_encoder
    from sen_toolbox.inference.onnx_encoder import METADATA
    from sen_toolbox.inference.onnx_export import export_onnx

    check_target(args.out, '.onnx', METADATA.encode())
    import_parts(args.imports)
    encoder = load_encoder(args.model, args.checkpoint)
    if not isinstance(encoder, Encoder):
        raise ValueError(f'{args.model} is an exported model: give the one that it was made of')
    difference = export_onnx(encoder, args.out, int8=args.int8)
    say(f'{args.out}: embeddings differ by {difference:.1e} at most')
    return 0
