_base_ = [
    './saf_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_transformers.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_vit, _bert = _base_.pop('small_vit'), _base_.pop('small_bert')
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_pretrained = 'work_dirs/vit_bert_tiny_world/epoch_4.pth'
model = dict(
    backbone=dict(
        image=dict(name=_vit, dropout=0.0, pretrained=_pretrained),
        text=dict(config=_bert, dropout=0.0, pretrained=_pretrained)),
    heads=dict(parts=dict(neck=dict(parts=4))))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'^backbone\.', lr_mult=0.5)]))
