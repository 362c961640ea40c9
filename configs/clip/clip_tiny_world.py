# The pretraining of the tiny towers: to them what CLIP's on the web is to the real ones. Pictures of
# anything with coarse, cut and partly wrong captions; its people are not those of SyntheticPedes.
_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py',
    '../_base_/datasets/drawn.py'
]
_base_.update(_base_.pop('drawn'))
dataset_type = 'DrawnWorld'
data_root = 'data/drawn_world'
num_classes = 24000  # each picture is its own
batch_size = 128
crop_padding = 4
max_epochs = 4
pretrained = None
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    heads=dict(contrast=dict(type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.05))),
    loss_weights=dict(contrast=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=200, by_epoch=False),
    # Stops before the rate is small: fine-tuning begins at half of the first rate anyway.
    dict(type='CosineAnnealingLR', begin=0, end=5, convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'(bias|ln_\w+\.weight|embedding(\.weight)?)$', decay_mult=0),
        # A word is seen in few captions.
        dict(pattern=r'token_embedding', lr_mult=3),
    ]))
