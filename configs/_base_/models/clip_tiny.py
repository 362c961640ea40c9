# A CLIP small enough to train on a CPU within minutes.
image_size = (128, 64)
context_length = 64
model = dict(
    type='TextImageRetriever',
    data_preprocessor=dict(
        type='PairPreprocessor',
        mean=[0.48145466, 0.4578275, 0.40821073],
        std=[0.26862954, 0.26130258, 0.27577711],
        erasing_prob=0.5),
    backbone=dict(
        type='CLIPBackbone',
        arch=dict(
            embed_dim=128,
            quick_gelu=True,
            vision_cfg=dict(layers=4, width=192, patch_size=16),
            text_cfg=dict(
                layers=3, width=128, heads=2, vocab_size=49408, context_length='$context_length')),
        image_size='$image_size',
        stride=None,
        pretrained=None))
