_base_ = [
    './ivt_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_pretrained = 'work_dirs/ivt_tiny_world/epoch_4.pth'
word_level = 'pieces'
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_vit = dict(_delete_=True, patch_size=8, embed_dim=128, depth=4, num_heads=2, mlp_ratio=2)
_bert = dict(  # with room for all ids of the tokenizer
    vocab_size=50_000, hidden_size=128, num_hidden_layers=4, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64)
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    backbone=dict(
        token_dropout=0.0, image=dict(name=_vit, stride=8, drop_path=0.0, pretrained=_pretrained),
        text=dict(config=_bert, dropout=0.0, pretrained=_pretrained)))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=5e-4), paramwise_cfg=dict(rules=[]))
