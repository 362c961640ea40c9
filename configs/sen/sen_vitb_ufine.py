_base_ = './sen_vitb_cuhk.py'
dataset_type = 'UFine6926'
data_root = 'data/UFine6926'
num_classes = 4926  # not checked against the data; training stops and names the right number
context_length = 168  # captions have 81 words on average; CFAM's and ICL's length
model = dict(backbone=dict(context_length='$context_length'))
val_dataloader = dict(dataset=dict(split='test'))  # UFine6926 has no val split that is known
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        *_base_.optim_wrapper.paramwise_cfg.rules,
        dict(pattern=r'^backbone\.(text\.)?positional_embedding$', lr_mult=5),  # ICL: 5e-5
    ]))
