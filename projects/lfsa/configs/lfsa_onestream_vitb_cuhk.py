# The release's second setting: corrupted captions alone, a fifth of all words changed.
_base_ = './lfsa_vitb_cuhk.py'
model = dict(heads=dict(pairs=dict(two_streams=False)))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'),
    dict(type='RandomFlip', prob=0.5), dict(type='PadCrop', padding='$crop_padding'),
    dict(type='CorruptCaption', tokenizer='$tokenizer', tagger=dict(type='NLTKTagger'), synonyms=dict(type='WordNet'),
         kinds=(), rate=0.2, otherwise=None, key='tokens'),
    dict(type='PackPair', per_image=['image_id'])]))
