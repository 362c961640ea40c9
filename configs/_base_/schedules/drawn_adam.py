# The release's Adam for few steps: its epsilon of 1e-3 is too large for 940 of them. Without it
# Adam turns the release's coupled decay into full steps for every word that a batch lacks.
#
#     optim_wrapper = _base_.pop('drawn_adam')
drawn_adam = dict(
    optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'bias$', lr_mult=2),
        dict(pattern=r'^heads\.', lr_mult=3),
    ]))
