# Optimiser and temperature of sen_tiny_synthetic.py, so that the two methods compare.
_base_ = [
    './irra_vitb_cuhk.py', '../_base_/datasets/drawn.py', '../_base_/schedules/drawn_5e.py',
    '../_base_/schedules/drawn_adam.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    heads=dict(sdm=dict(loss=dict(temperature=0.1)), mlm=dict(neck=dict(depth=2))))
optim_wrapper = _base_.pop('drawn_adam')
