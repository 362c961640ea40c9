_base_ = [
    './lgur_deit_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
# Encoders start at random, and BERT stays so; it has room for all ids of the tokenizer.
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_vit = dict(_delete_=True, patch_size=8, embed_dim=128, depth=4, num_heads=2, mlp_ratio=2)
_sizes = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64, initializer_range=0.2)
model = dict(
    backbone=dict(
        image=dict(name=_vit, num_blocks=3, drop_path=0.0, pretrained=None),
        text=dict(bert=dict(config=_sizes, dropout=0.0, pretrained=None), hidden_dim=128)),
    heads=dict(parts=dict(neck=dict(
        entries=50, parts=4, part_width=64, rebuild=dict(heads=2, mlp_width=128),
        decoder=dict(depth=1, heads=2, head_width=64, mlp_width=128)))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
