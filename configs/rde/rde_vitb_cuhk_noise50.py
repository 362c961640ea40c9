_base_ = './rde_vitb_cuhk.py'
train_dataloader = dict(dataset=dict(noise_rate=0.5))
# The release fits closer where noise is above 40 %.
default_hooks = dict(division=dict(max_iterations=100, tolerance=1e-4, variance_floor=1e-6))
