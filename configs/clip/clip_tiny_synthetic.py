# InfoNCE on the people that the other methods train on: the floor of their table.
_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py',
    '../_base_/datasets/drawn.py', '../_base_/schedules/drawn_5e.py',
    '../_base_/schedules/drawn_adam.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    heads=dict(contrast=dict(type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.05))),
    loss_weights=dict(contrast=1.0))
optim_wrapper = dict(
    _base_.pop('drawn_adam'), paramwise_cfg=dict(rules=[dict(pattern=r'bias$', lr_mult=2)]))
