# Pretrains the tiny encoders as clip_tiny_synthetic.py does the tiny towers: InfoNCE, people of seed 1.
_base_ = '../../../configs/clip/clip_tiny_synthetic.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint', 'projects.cmpm.backbone'])
image_size = (64, 32)
batch_size = 128
max_epochs = 12
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNetLSTM',
        depth=10,
        image_size='$image_size',
        context_length='$context_length',
        embed_dim=128,
        word_dim=128,
        hidden_dim=128,
        dropout=0.0,
        pretrained=None))
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        dict(pattern=r'(bias|bn\d\.weight|embedding\.weight)$', decay_mult=0),
        dict(pattern=r'word_embedding', lr_mult=3),
    ]))
