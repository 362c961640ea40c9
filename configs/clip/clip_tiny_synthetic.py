# The pretraining of the tiny towers: to them what CLIP's is to the real ones, so on other people
# than the methods train and are tested on: seed 1, where SyntheticPedes has 0.
_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py',
    '../_base_/datasets/drawn.py'
]
_base_.update(_base_.pop('drawn'))
data_root = 'data/synthetic_pretraining'
batch_size = 128
crop_padding = 4
max_epochs = 10
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    backbone=dict(arch='tiny', pretrained=None),
    heads=dict(contrast=dict(type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.05))),
    loss_weights=dict(contrast=1.0))
train_dataloader = dict(dataset=dict(seed=1))
val_dataloader = dict(dataset=dict(seed=1))
test_dataloader = dict(dataset=dict(seed=1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=3, end='$max_epochs', convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'(bias|ln_\w+\.weight|embedding(\.weight)?)$', decay_mult=0),
        # A word is seen in few captions.
        dict(pattern=r'token_embedding', lr_mult=3),
    ]))
