_base_ = [
    './beat_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
# Encoders start at random, and BERT stays so; it has room for all ids of the tokenizer.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_depth = dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128))
_sizes = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64, initializer_range=0.2)
model = dict(
    backbone=dict(
        image=dict(depth=_depth, pretrained=None),
        text=dict(bert=dict(config=_sizes, dropout=0.0, pretrained=None), hidden_dim=128, input_dropout=0.0)),
    heads=dict(parts=dict(neck=dict(width=64, non_local_width=32))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
