_base_ = [
    './rde_vitb_cuhk.py', '../_base_/datasets/drawn.py', '../_base_/schedules/drawn_5e.py',
    '../_base_/schedules/drawn_adam.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
model = dict(data_preprocessor=dict(erasing_prob=0.0))
optim_wrapper = _base_.pop('drawn_adam')
