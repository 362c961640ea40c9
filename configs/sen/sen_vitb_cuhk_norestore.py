_base_ = './sen_vitb_cuhk.py'
# What a child writes is merged into its base, so a head is taken out of the base itself.
_base_.model.heads.pop('restoration')
_base_.model.loss_weights.pop('restoration')
