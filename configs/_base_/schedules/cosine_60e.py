# The SEN and IRRA releases: warm-up from 0.1 that reaches 1 in epoch 6, then a cosine to 0.
max_epochs = 60
train_cfg = dict(type='ResumableTrainLoop', max_epochs='$max_epochs', val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=6),
    dict(type='CosineAnnealingLR', begin=5, end='$max_epochs'),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='Adam', lr=1e-5, betas=(0.9, 0.999), eps=1e-3, weight_decay=4e-5, fused=True),
    constructor='RuleOptimWrapperConstructor',
    paramwise_cfg=dict(rules=[  # a method without the part shares them
        dict(pattern=r'\.neck\.(cross_attention|transformer)\.', lr_mult=5, optional=True),
        dict(pattern=r'bias$', lr_mult=2, decay_mult=0),
        dict(pattern=r'\.classifier\.', lr_mult=5, optional=True),
    ]))
