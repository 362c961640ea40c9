_base_ = [
    './tipcb_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
load_from = 'work_dirs/tipcb_tiny_world/epoch_3.pth'
# BERT stays as random as it is; it has room for all ids of the tokenizer.
image_size = (96, 32)
bert = None
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_depth = dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128))
_bert = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64, initializer_range=0.2)
model = dict(
    backbone=dict(image=dict(depth=_depth, pretrained=None), text=dict(config=_bert, dropout=0.0)),
    heads=dict(levels=dict(neck=dict(blocks=1, middle=64))))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
