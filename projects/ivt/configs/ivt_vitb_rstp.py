_base_ = './ivt_vitb_cuhk.py'
dataset_type = 'RSTPReid'
data_root = 'data/RSTPReid'
num_classes = 3701
batch_size = 48
word_level = 'pieces'
model = dict(backbone=dict(image=dict(stride=16)))
