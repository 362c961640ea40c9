# The model that sen-search ships: convolutions beside an LSTM, from the start; many more people than
# the methods learn from, each in two views, and harder ones: cut out badly, at other proportions,
# at dusk, out of focus, partly hidden. Batches hold people whom the model finds alike.
_base_ = ['./clip_tiny_world.py']
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic_search'
num_classes = 20000
max_epochs = 7
_people = dict(
    num_ids=dict(train='$num_classes', val=150, test=400), images_per_id=2,
    brief_captions_per_image=2, seed=11)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='HardBatchSampler', batch_size='$batch_size'),
    dataset=dict(
        **_people,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='TorchvisionOps', ops=[
                dict(type='RandomApply', p=0.7, transforms=[
                    dict(type='RandomResizedCrop', size='$image_size', scale=(0.7, 1.0), ratio=(0.4, 0.6))]),
                dict(type='RandomApply', p=0.6, transforms=[
                    dict(type='ColorJitter', brightness=(0.5, 1.3), contrast=(0.6, 1.3), saturation=(0.7, 1.2))]),
                dict(type='RandomApply', p=0.3, transforms=[
                    dict(type='GaussianBlur', kernel_size=5, sigma=(0.2, 1.6))]),
            ]),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(type='PackPair'),
        ]))
val_dataloader = dict(dataset=_people)
test_dataloader = dict(dataset=_people)
model = dict(
    data_preprocessor=dict(erasing_prob=0.4),
    backbone=dict(
        embed_dim=256,
        projection_norm=dict(),
        image=dict(
            _delete_=True,
            type='ResNet',
            depth=dict(block='basic', blocks=(1, 1, 1, 1), widths=(48, 96, 192, 256)),
            image_size='$image_size',
            last_stride=1,
            stripes=6),
        text=dict(
            _delete_=True, type='RecurrentTextEncoder', tokenizer='$tokenizer', word_dim=128,
            hidden_dim=256)))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end='$max_epochs', eta_min_ratio=0.02, convert_to_iter_based=True),
]
default_hooks = dict(
    ema=dict(type='EMAHook', momentum=0.005), hard_batches=dict(type='HardBatchHook'))
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        dict(
            pattern=r'(bias|(bn\d|norm|downsample\.1)\.weight|embedding(\.weight)?)$',
            decay_mult=0),
        dict(pattern=r'word_embedding', lr_mult=3),
    ]))
