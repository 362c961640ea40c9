_base_ = './tbps_clip_vitb_cuhk.py'
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
batch_size = 64
num_workers = 1
pin_memory = False  # made for a CPU
max_epochs = 5
image_size = (128, 64)
context_length = 56
clip_arch = 'tiny'
pretrained = 'work_dirs/demo/clip/epoch_10.pth'  # of make demo
model = dict(
    # The mean and the scale of clip_tiny_synthetic, whose weights these are.
    data_preprocessor=dict(
        mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]),
    heads=dict(contrast=dict(initial_scale=20.0)))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
