_base_ = [
    './nafs_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
# All of it starts at random.
image_size = (96, 32)
context_length = 168
tokenizer = dict(tokenizer=dict(_delete_=True, type='CLIPTokenizer'))
_depth = dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128))
_sizes = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64)
model = dict(backbone=dict(
    embed_dim=128, projection_norm=dict(momentum=0.01),
    image=dict(depth=_depth, pretrained=None),
    text=dict(config=_sizes, dropout=0.0, pretrained=None)))
optim_wrapper = dict(optimizer=dict(weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'_projection\.norm\.bias$', lr_mult=0)]))
