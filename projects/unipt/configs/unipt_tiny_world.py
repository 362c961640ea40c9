# The pretraining in small, in the drawn world, with a temperature: unscaled cosines learn too
# slowly for four epochs.
_base_ = [
    './unipt_vitb_pretrain.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/models/small_transformers.py'
]
_base_.update(_base_.pop('drawn'))
_vit, _bert = _base_.pop('small_vit'), _base_.pop('small_bert')
dataset_type = 'DrawnWorld'
data_root = 'data/drawn_world'
num_classes = 24000  # each picture is its own
batch_size = 128
crop_padding = 4
max_epochs = 4
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        image=dict(name=_vit, pretrained=None), text=dict(config=_bert, dropout=0.0, pretrained=None)),
    heads=dict(contrast=dict(neck=dict(width=128), loss=dict(temperature=0.05))),
    loss_weights=dict(words=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=200, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=5, convert_to_iter_based=True)]
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(rules=[
    dict(pattern=r'(bias|[Nn]orm\d?\.weight|embed|embeddings\.weight|cls_token)$', decay_mult=0),
    dict(pattern=r'word_embeddings', lr_mult=3)]))
