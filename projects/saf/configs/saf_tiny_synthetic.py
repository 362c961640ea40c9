_base_ = [
    './saf_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_pretrained = 'work_dirs/saf_tiny_world/epoch_4.pth'
_vit = dict(_delete_=True, patch_size=8, embed_dim=128, depth=4, num_heads=2, mlp_ratio=2)
_bert = dict(  # with room for all ids of the tokenizer
    vocab_size=50_000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64)
model = dict(
    backbone=dict(
        image=dict(name=_vit, dropout=0.0, pretrained=_pretrained),
        text=dict(config=_bert, dropout=0.0, pretrained=_pretrained)),
    heads=dict(parts=dict(neck=dict(parts=4))))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'^backbone\.', lr_mult=0.5)]))
