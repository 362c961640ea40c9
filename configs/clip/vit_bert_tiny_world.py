# Pretrains the ViT and the BERT of small_transformers.py as clip_tiny_world.py does the tiny towers.
_base_ = ['./clip_tiny_world.py', '../_base_/models/small_transformers.py']
_vit, _bert = _base_.pop('small_vit'), _base_.pop('small_bert')
_vit.pop('_delete_')
# The mean and the scale are those of ImageNet, as most methods with these encoders take them.
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    backbone=dict(
        _delete_=True, type='DualEncoder',
        image=dict(type='TimmViT', name=_vit, image_size='$image_size'),
        text=dict(type='BERT', config=_bert, context_length='$context_length', dropout=0.0)))
optim_wrapper = dict(paramwise_cfg=dict(rules=[
    dict(pattern=r'(bias|[Nn]orm\d?\.weight|embed|embeddings\.weight|cls_token)$', decay_mult=0),
    dict(pattern=r'word_embeddings', lr_mult=3),
]))
