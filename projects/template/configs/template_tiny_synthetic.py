_base_ = '../../../configs/clip/clip_tiny_synthetic.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.template.alignment'])
model = dict(
    heads=dict(alignment=dict(type='AlignmentHead')),
    loss_weights=dict(alignment=0.1))
