# Five epochs of drawn people; used as datasets/drawn.py is.
drawn_5e = dict(
    max_epochs=5,
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, begin=0, end=100, by_epoch=False),
        dict(type='CosineAnnealingLR', begin=0, end='$max_epochs', convert_to_iter_based=True),
    ])
