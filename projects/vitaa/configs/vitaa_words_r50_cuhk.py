# Without the release's files: attributes by lists of words, no segmentations.
_base_ = './vitaa_r50_cuhk.py'
model = dict(heads=dict(attributes=dict(segmentations=False)))
_image = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'), dict(type='ReverseChannels')]
train_dataloader = dict(dataset=dict(pipeline=[
    *_image, dict(type='RandomFlip', prob=0.5), dict(type='Tokenize', tokenizer='$tokenizer'),
    dict(type='NamedAttributes', tokenizer='$tokenizer'),
    dict(type='PackPair', per_caption=['attribute_tokens'])]))
