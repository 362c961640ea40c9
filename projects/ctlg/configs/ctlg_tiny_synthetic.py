_base_ = [
    './ctlg_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_bert = _base_.pop('small_bert')
_base_.pop('small_resnet')
# All of it starts at random, and no word is replaced. Captions and pairs are varied less.
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_vit = dict(_delete_=True, patch_size=8, embed_dim=128, depth=3, num_heads=4, mlp_ratio=2)
model = dict(
    backbone=dict(
        image=dict(name=_vit, stride=6, pretrained=None),
        text=dict(_bert, config=dict(_bert['config'], initializer_range=0.02))),
    heads=dict(infonce=dict(loss=dict(temperature=0.05))))
_image = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'), dict(type='RandomFlip', prob=0.5)]
train_dataloader = dict(dataset=dict(pipeline=[
    *_image, dict(type='MixWithAnother', steps=_image, prob=0.1),
    dict(type='VaryCaption', synonyms=None, prob=0.5, share=0.2),
    dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
