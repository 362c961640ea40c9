_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py'
]
batch_size = 64
model = dict(
    heads=dict(
        sdm=dict(type='MatchingHead', loss=dict(type='SDMLoss', temperature=0.02)),
        identity=dict(type='IdentityHead', num_classes='$num_classes'),
        mlm=dict(type='MaskedWordHead', neck=dict(type='CrossModalEncoder', depth=4))),
    loss_weights=dict(sdm=1.0, identity=1.0, mlm=1.0))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(
                type='MaskWords', tokenizer='$tokenizer',
                noun_adjective_rate=0.15, other_rate=0.15),
            dict(type='PackPair', extra=['word_labels']),
        ]))
randomness = dict(seed=1)  # the release's
