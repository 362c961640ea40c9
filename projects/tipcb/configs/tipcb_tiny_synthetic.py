_base_ = [
    './tipcb_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
load_from = 'work_dirs/tipcb_tiny_world/epoch_3.pth'
# BERT stays as random as it is.
image_size = (96, 32)
bert = None
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(image=_resnet, text=_bert),
    heads=dict(levels=dict(neck=dict(blocks=1, middle=64))))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
