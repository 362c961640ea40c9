_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py'
]
batch_size = 64
_tal = dict(type='TripletAlignmentLoss', margin=0.1, temperature=0.015)
model = dict(
    heads=dict(
        bge=dict(type='WeightedMatchingHead', loss=_tal),
        tse=dict(
            type='TokenSelectionHead', neck=dict(type='TokenSelection', ratio=0.3), loss=_tal)),
    loss_weights=dict(bge=1.0, tse=1.0))
train_dataloader = dict(
    dataset=dict(
        noise_rate=0.0,
        noise_seed=0,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(type='CorruptWords', tokenizer='$tokenizer', rate=0.2),
            dict(type='PackPair', extra=['sample_idx']),
        ]))
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        dict(pattern=r'bias$', lr_mult=2, decay_mult=0),
        dict(pattern=r'_neck\.', lr_mult=100),
    ]))
default_hooks = dict(division=dict(
    type='ConsensusDivisionHook', heads=['bge', 'tse'],
    max_iterations=10, tolerance=1e-2, variance_floor=5e-4))
randomness = dict(seed=1)  # the RDE release's
