_base_ = [
    './timam_r101_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
# Encoders start at random, BERT too, so all are trained from the start, by Adam and with norms.
load_from = None
image_size = (96, 48)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        embed_dim=128, projection_norm=dict(), image=_resnet,
        text=dict(bert=_bert, hidden_dim=128)),
    heads=dict(modality=dict(hidden_dim=128)))
optim_wrapper = dict(optimizer=dict(adaptive='backbone|identity', lr=1e-3, weight_decay=0))
