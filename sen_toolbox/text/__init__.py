"""Captions as tokens: what a tokenizer returns, the tokenizers, and words for people to read."""
