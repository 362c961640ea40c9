_base_ = './rde_vitb_cuhk.py'
dataset_type = 'RSTPReid'
data_root = 'data/RSTPReid'
num_classes = 3701
default_hooks = dict(division=dict(max_iterations=100, tolerance=1e-4, variance_floor=1e-6))
