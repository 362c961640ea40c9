"""The plain reference: what the SEN and IRRA releases compute, at the cost they compute it.

Written from the papers and the behaviour of the released code, in words of our own, on the modules
of our models, so that weights and gradients can be compared. Every pass runs on all tokens with the
sequence first, the caption is encoded a second time for the auxiliary task, patches are embedded
before most are dropped, every patch is predicted, the vocabulary is scored at all 77 positions,
each parameter has its own optimiser group, and rankings are full sorts, evaluated in loops over
queries and over places.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.models.heads.restoration import to_grey
from sen_toolbox.optim import RuleOptimWrapperConstructor
from sen_toolbox.text.tokens import Tokens


def attention(module: nn.MultiheadAttention, queries: Tensor, keys: Tensor, mask=None) -> Tensor:
    """Torch's attention of tokens (L, B, W)."""
    return F.multi_head_attention_forward(
        queries,
        keys,
        keys,
        module.embed_dim,
        module.num_heads,
        module.in_proj_weight,
        module.in_proj_bias,
        None,
        None,
        False,
        0.0,
        module.out_proj.weight,
        module.out_proj.bias,
        need_weights=False,
        attn_mask=mask,
    )[0]


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's activation, step by step."""
    return x * torch.sigmoid(1.702 * x)


def blocks(tower: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """All blocks on all tokens (L, B, W)."""
    for block in tower.resblocks:
        normed = block.ln_1(x)
        x = x + attention(block.attn, normed, normed, mask)
        hidden = quick_gelu(block.mlp.c_fc(block.ln_2(x)))
        x = x + F.linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias)
    return x


def image_tokens(backbone: nn.Module, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """Projected tokens (B, 1 + N, D); those not in ``keep`` are dropped after their embedding."""
    visual = backbone.image
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = x + visual.positional_embedding[1:]
    if keep is not None:
        x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
    first = visual.class_embedding + visual.positional_embedding[:1]
    x = visual.ln_pre(torch.cat([first.expand(len(x), 1, -1), x], dim=1))
    x = blocks(visual.transformer, x.transpose(0, 1)).transpose(0, 1)
    return visual.ln_post(x) @ visual.proj


def text_tokens(backbone: nn.Module, tokens: Tokens) -> Tensor:
    """Projected tokens (B, 77, D), padding included."""
    text, ids = backbone.text, tokens.ids
    length = ids.shape[1]
    mask = torch.full((length, length), -torch.inf, device=ids.device).triu(1)
    x = text.token_embedding(ids) + text.positional_embedding
    x = blocks(text.transformer, x.transpose(0, 1), mask.to(x.dtype)).transpose(0, 1)
    return text.ln_final(x) @ text.text_projection


def text_embedding(backbone: nn.Module, tokens: Tokens) -> Tensor:
    """Embeddings (B, D) at the end tokens of full passes."""
    feats = text_tokens(backbone, tokens)
    return feats[torch.arange(len(tokens)), tokens.end]


def step_loss(model: nn.Module, batch: dict, noise: Tensor | None = None) -> Tensor:
    """The objective of SEN or IRRA, whichever the model is; SEN needs noise (B, N)."""
    backbone, heads, labels = model.backbone, model.heads, batch['labels']
    all_patches = image_tokens(backbone, batch['images'])
    image, text = all_patches[:, 0], text_embedding(backbone, batch['tokens'])
    with torch.autocast(image.device.type, enabled=False):
        losses = {
            name: heads[name].loss(image.float(), text.float(), labels)
            for name in ('sdm', 'triplet')
            if name in heads
        }
    classifier = heads['identity'].classifier
    losses['identity'] = sum(F.cross_entropy(classifier(x), labels) for x in (image, text)) / 2
    again = text_tokens(backbone, batch['tokens'])
    if 'restoration' in heads:
        losses['restoration'] = restoration_loss(
            heads['restoration'], batch, again, noise, backbone
        )
    if 'mlm' in heads:
        losses['mlm'] = word_loss(heads['mlm'], batch, again, all_patches)
    return sum(model.loss_weights[name] * loss for name, loss in losses.items())


def restoration_loss(
    head: nn.Module, batch: dict, words: Tensor, noise: Tensor, backbone: nn.Module
) -> Tensor:
    """SEN: predicts all patches and weighs the visible ones with 0."""
    images, neck = batch['images'], head.neck
    order = noise.argsort(dim=1)
    rank = order.argsort(dim=1)
    visible = image_tokens(backbone, to_grey(images), order[:, : head.num_kept - 1])
    x = neck.embed(neck.image_norm(visible))
    hidden = neck.mask_token.expand(len(x), rank.shape[1] + 1 - x.shape[1], -1)
    patches = torch.cat([x[:, 1:], hidden.to(x.dtype)], dim=1)
    patches = patches.gather(1, rank[..., None].expand(-1, -1, x.shape[2]))
    x = torch.cat([x[:, :1], patches], dim=1) + neck.position
    keys = neck.text_norm(words).transpose(0, 1)
    x = attention(neck.cross_attention, neck.query_norm(x).transpose(0, 1), keys)
    x = blocks(neck.transformer, neck.cross_norm(x)).transpose(0, 1)
    predicted = neck.predict(neck.output_norm(x))[:, 1:]
    error = (predicted - head.to_patches(images)).square().mean(dim=2)
    scored = (rank >= head.num_kept).to(error.dtype)
    return (error * scored).sum() / scored.sum()


def word_loss(head: nn.Module, batch: dict, words: Tensor, patches: Tensor) -> Tensor:
    """IRRA: scores the vocabulary at every position and ignores all but the masked ones."""
    neck, scores = head.neck, head.classifier
    keys = neck.image_norm(patches).transpose(0, 1)
    x = attention(neck.cross_attention, neck.text_norm(words).transpose(0, 1), keys)
    x = neck.output_norm(blocks(neck.transformer, x).transpose(0, 1))
    logits = scores.words(scores.norm(quick_gelu(scores.dense(x)))).flatten(0, 1)
    labels = batch['word_labels'].flatten()
    guessed = logits[:, 1:].argmax(dim=1) + 1
    (guessed == labels).float().mean().item()
    return F.cross_entropy(logits, labels, ignore_index=0)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adam with the rules of the model's config and one group for each parameter."""
    wrapper = model.config.optim_wrapper
    options = {k: v for k, v in wrapper.optimizer.items() if k not in ('type', 'fused')}
    rules = RuleOptimWrapperConstructor(
        dict(optimizer=dict(wrapper.optimizer)), wrapper.paramwise_cfg.to_dict()
    )
    groups = []
    for name, parameter in model.named_parameters():
        lr_mult, decay_mult = rules.factors(name)
        rate, decay = options['lr'] * lr_mult, options['weight_decay'] * decay_mult
        groups.append(dict(params=[parameter], lr=rate, weight_decay=decay))
    return torch.optim.Adam(groups, **options)


def ranking(queries: Tensor, gallery: Tensor, query_ids: Tensor, gallery_ids: Tensor) -> dict:
    """R1, R5, R10, mAP and mINP in percent, at the cost of the releases' evaluation.

    The scores of all queries are one matrix, sorted in full; the identities in that order and the
    right items found up to each place are matrices of int64. Each query's last right item is looked
    up in a loop over queries, the precision at each place in a loop over columns, which are stacked
    and weighed with 0 where the item is wrong.
    """
    scores = queries @ gallery.t()
    order = scores.argsort(dim=1, descending=True)
    ranked = gallery_ids[order]
    right = ranked == query_ids[:, None]
    recalls = right[:, :10].cumsum(dim=1).clamp(max=1).float().mean(dim=0)
    measures = {f'R{k}': recalls[k - 1] for k in (1, 5, 10)}
    count, found = right.sum(dim=1), right.cumsum(dim=1)
    last = [row.nonzero()[-1] for row in right]
    penalties = [row[place] / (place + 1.0) for row, place in zip(found, last, strict=True)]
    columns = [found[:, place] / (place + 1.0) for place in range(found.shape[1])]
    # As in the releases, the counts are gone before the columns are stacked.
    del found
    precision = torch.stack(columns, dim=1) * right
    measures['mAP'] = (precision.sum(dim=1) / count).mean()
    measures['mINP'] = torch.cat(penalties).mean()
    return {name: 100 * value.item() for name, value in measures.items()}
