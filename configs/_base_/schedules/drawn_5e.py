# Five epochs of drawn people; used as datasets/drawn.py is. The average of the weights over about
# one epoch stands for rates that fall to 0, and a single bad step hardly moves it.
drawn_5e = dict(
    max_epochs=5,
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, begin=0, end=100, by_epoch=False),
        dict(
            type='CosineAnnealingLR', begin=0, end='$max_epochs', eta_min_ratio=0.2,
            convert_to_iter_based=True),
    ],
    default_hooks=dict(ema=dict(type='EMAHook', momentum=0.005)))
