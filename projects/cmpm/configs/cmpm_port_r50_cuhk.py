# The unofficial PyTorch version, from which later methods took their CMPM.
_base_ = './cmpm_r50_cuhk.py'
max_epochs = 300
# Its words keep their case, those of the other version do not.
vocab_file = 'data/CUHK-PEDES/frequent_words_port.json'
tokenizer = dict(lower_case=False, start=False)
model = dict(
    data_preprocessor=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
    backbone=dict(
        projection_norm=None,
        text=dict(
            both_forwards=True, bias=False, learns_start=False, dropout=0.0,
            word_init='normal', padding_learns=False)),
    heads=dict(cmpm=dict(loss=dict(type='CMPMLoss'))))
param_scheduler = [dict(type='MultiStepLR', milestones=[80, 150, 200], gamma=0.1)]
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[dict(pattern=r'^(?!backbone\.image\.)', decay_mult=0)]))
