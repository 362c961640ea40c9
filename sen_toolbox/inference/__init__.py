"""A trained model outside of training: how it prepares, what it embeds, the files it is kept in."""
