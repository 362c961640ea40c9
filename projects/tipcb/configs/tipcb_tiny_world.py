# CMPM does not start from random weights, so InfoNCE pretrains all of them in the drawn world.
_base_ = './tipcb_tiny_synthetic.py'
load_from = None
dataset_type = 'DrawnWorld'
data_root = 'data/drawn_world'
num_classes = 24000  # each picture is its own
batch_size = 128
max_epochs = 3
model = dict(heads=dict(levels=dict(loss=dict(_delete_=True, type='InfoNCELoss', temperature=0.05))))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
