_base_ = [
    './nafs_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/pretrained_small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
image_size = (96, 32)
context_length = 168
tokenizer = dict(tokenizer=dict(_delete_=True, type='CLIPTokenizer'))
model = dict(backbone=dict(
    embed_dim=128, projection_norm=dict(momentum=0.01),
    image=_resnet, text=_bert))
optim_wrapper = dict(optimizer=dict(weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'_projection\.norm\.bias$', lr_mult=0)]))
