_base_ = [
    './ssan_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet = _base_.pop('small_resnet')
_base_.pop('small_bert')
# Encoders start at random, so all learn at one rate; the map has six rows.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        image=dict(**_resnet, last_stride=1),
        text=dict(word_dim=128, hidden_dim=128, input_dropout=0.0)),
    heads=dict(parts=dict(neck=dict(width=128, non_local_width=64))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
