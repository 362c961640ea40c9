_base_ = [
    './lfsa_vitb_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py', '../../../configs/_base_/schedules/drawn_adam.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
model = dict(data_preprocessor=dict(erasing_prob=0.0))
# Without data of NLTK: nouns and adjectives by rules, and no word is replaced.
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'), dict(type='RandomFlip', prob=0.5),
    dict(type='Tokenize', tokenizer='$tokenizer'),
    dict(type='CorruptCaption', tokenizer='$tokenizer', tagger=dict(type='RuleTagger'), synonyms=None, rate=0.6),
    dict(type='PackPair', per_image=['image_id'], per_caption=['second_tokens'])]))
optim_wrapper = _base_.pop('drawn_adam')
