"""Image features, ViT-B/16 at 384 x 128: exact, and with 16-bit or 8-bit weights."""

import torch
from common import Report, alternate, arguments, distance
from plain import image_tokens
from reduced import cosine, in_bfloat16, in_int8
from workload import build


@torch.inference_mode()
def main() -> None:
    args = arguments(__doc__, batch_size=8, repeats=3)
    model = build('sen').eval()
    images = torch.randn(args.batch_size, 3, 384, 128)

    def plain() -> torch.Tensor:
        feats = image_tokens(model.backbone, images)[:, 0]
        return torch.nn.functional.normalize(feats, dim=1)

    report = Report(f'image features, CPU, batch of {args.batch_size}')
    expected = plain()
    report.check('features', distance(model.embed_images(images), expected), 1e-5)
    half, small = in_bfloat16(model), in_int8(model)
    cosines = [
        cosine(half.embed_images(images.bfloat16()), expected),
        cosine(small.embed_images(images), expected),
    ]
    times = alternate(
        args.repeats,
        plain,
        lambda: model.embed_images(images),
        lambda: half.embed_images(images.bfloat16()),
        lambda: small.embed_images(images),
    )
    reference, exact, bf16, int8 = (1000 * t / args.batch_size for t in times)
    report.add('image, exact', exact, reference, 'CPU ms')
    report.add(f'image, bfloat16 (least cosine {cosines[0]:.5f})', bf16, reference, 'CPU ms')
    report.add(
        f'image, int8 (least cosine {cosines[1]:.5f})',
        int8,
        reference,
        'CPU ms',
        goal='3.2x, 0.9998',
    )
    report.finish(args.json)


if __name__ == '__main__':
    main()
