_base_ = './unipt_vitb_cuhk.py'
dataset_type = 'RSTPReid'
data_root = 'data/RSTPReid'
num_classes = 3701
