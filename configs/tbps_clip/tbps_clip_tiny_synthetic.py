_base_ = ['./tbps_clip_vitb_cuhk.py', '../_base_/datasets/drawn.py']
_base_.update(_base_.pop('drawn'))
model = dict(
    # The mean and the scale of clip_tiny_world, whose weights these are.
    data_preprocessor=dict(
        mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]),
    heads=dict(contrast=dict(initial_scale=20.0)))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
