# A ViT and a BERT that train on a CPU; used as small_encoders.py is. The BERT has room for all ids of
# the tokenizer.
small_vit = dict(
    _delete_=True, patch_size=8, embed_dim=128, depth=4, num_heads=2, mlp_ratio=2)
small_bert = dict(
    vocab_size=50_000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=256, max_position_embeddings=64)
