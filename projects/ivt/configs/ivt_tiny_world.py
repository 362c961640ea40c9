# Pretrains the tiny transformer as clip_tiny_world.py does the tiny towers: InfoNCE, the drawn world.
_base_ = '../../../configs/clip/clip_tiny_world.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.ivt'])
_vit = dict(patch_size=8, embed_dim=128, depth=4, num_heads=2, mlp_ratio=2)
_bert = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=4, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64)
model = dict(backbone=dict(
    _delete_=True, type='SharedTransformer',
    image=dict(type='TypedViT', name=_vit, image_size='$image_size'),
    text=dict(type='BorrowingBERT', config=_bert, context_length='$context_length', dropout=0.0)))
optim_wrapper = dict(paramwise_cfg=dict(rules=[
    dict(pattern=r'(bias|[Nn]orm\d?\.weight|embed|embeddings\.weight|cls_token)$', decay_mult=0),
    dict(pattern=r'word_embeddings', lr_mult=3),
]))
