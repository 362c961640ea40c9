_base_ = [
    './cfine_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_bert = _base_.pop('small_bert')
_base_.pop('small_resnet')
# The shipped image tower beside a BERT that starts at random, as wide as it.
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(text=dict(_bert, config=dict(
        _bert['config'], hidden_size=96, num_attention_heads=3, intermediate_size=192, initializer_range=0.02))),
    heads=dict(groups=dict(neck=dict(head_width=32, attention_dropout=0.0))))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0), paramwise_cfg=dict(rules=[dict(pattern=r'^backbone\.image\.', lr_mult=0.3)]))
