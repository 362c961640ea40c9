# Seven epochs of drawn people; used as datasets/drawn.py is.
drawn_7e = dict(
    max_epochs=7,
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
    ])
