_base_ = [
    './lgur_deit_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_transformers.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_vit, _bert = _base_.pop('small_vit'), _base_.pop('small_bert')
# As the release does: a ViT and a BERT that are pretrained, and BERT stays as it is.
_pretrained = 'work_dirs/vit_bert_tiny_world/epoch_4.pth'
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        image=dict(name=_vit, num_blocks=3, drop_path=0.0, pretrained=_pretrained),
        text=dict(bert=dict(config=_bert, dropout=0.0, pretrained=_pretrained), hidden_dim=128)),
    heads=dict(parts=dict(neck=dict(
        entries=50, parts=4, part_width=64, rebuild=dict(heads=2, mlp_width=128),
        decoder=dict(depth=1, heads=2, head_width=64, mlp_width=128)))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
