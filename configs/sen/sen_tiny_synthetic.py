# Small and short: the corruptions are milder than the release's, which wants 60 epochs.
_base_ = [
    './sen_vitb_cuhk.py', '../_base_/datasets/drawn.py', '../_base_/schedules/drawn_5e.py',
    '../_base_/schedules/drawn_adam.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
noun_masking = 0.15
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    heads=dict(restoration=dict(neck=dict(depth=2))))
train_dataloader = dict(dataset=dict(tagger=dict(type='RuleTagger')))
optim_wrapper = _base_.pop('drawn_adam')
