_base_ = './caibc_r50_cuhk.py'
dataset_type = 'RSTPReid'
data_root = 'data/RSTPReid'
num_classes = 3701
