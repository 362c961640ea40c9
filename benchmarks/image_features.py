"""Image features, ViT-B/16 at 384 x 128: torch and the ONNX export, 32 bits and fewer."""

import tempfile

import torch
from common import Report, alternate, arguments
from plain import image_tokens
from reduced import add_rows, in_bfloat16, in_onnx, on_one_core, random_towers


def main() -> None:
    args = arguments(__doc__, batch_size=8, repeats=3)
    on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        towers = random_towers(folder)
        exported, small = (in_onnx(towers, folder, int8=int8) for int8 in (False, True))
    model, half = towers.model, in_bfloat16(towers.model)
    size = (args.batch_size, 3, *towers.processor.image_size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8)
    # The exported graph does this itself.
    images = model.data_preprocessor(dict(images=pixels))['images']

    def plain() -> torch.Tensor:
        feats = image_tokens(model.backbone, images)[:, 0]
        return torch.nn.functional.normalize(feats, dim=1)

    ways = {
        'torch, exact': lambda: model.embed_images(images),
        'torch, bfloat16': lambda: half.embed_images(images.bfloat16()),
        'onnxruntime, exact': lambda: torch.from_numpy(exported.embed_prepared(pixels.numpy())),
        'onnxruntime, int8': lambda: torch.from_numpy(small.embed_prepared(pixels.numpy())),
    }
    goals = {'onnxruntime, int8': '3.2x, 0.9998'}
    report = Report(f'image features, CPU, batch of {args.batch_size}')
    with torch.inference_mode():
        expected = plain()
        found = {name: way() for name, way in ways.items()}
        seconds = alternate(args.repeats, plain, *ways.values())
    add_rows(report, found, expected, [1000 * s / args.batch_size for s in seconds], goals)
    report.finish(args.json)


if __name__ == '__main__':
    main()
