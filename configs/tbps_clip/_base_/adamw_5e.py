# The release's: one epoch from 1e-6 to 1e-4, then a cosine to 5e-6; conv1 is frozen.
_base_ = '../../_base_/schedules/cosine_60e.py'
max_epochs = 5
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=1, convert_to_iter_based=True),
    # A ratio, so that the rate of conv1 stays 0.
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', eta_min_ratio=0.05,
         convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.02),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'(bias|\.ln_\w+\.weight|class_embedding|logit_scale)$', decay_mult=0),
        dict(pattern=r'\.conv1\.', lr_mult=0),
    ]))
