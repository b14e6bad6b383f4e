"""The networks of the diffusion benchmark in plain PyTorch, with the parameter names of diffusers, so that one file of
weights serves both sides. Used by diffusion_peer.py."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

def sdpa(q, k, v):
    """Scaled dot-product attention [N, heads, T, D]: PyTorch's fused kernel where this version has it."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    n, h, t, d = q.shape
    q, k, v = (x.reshape(n * h, -1, d) for x in (q, k, v))
    scores = torch.bmm(q * d ** -0.5, k.transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v).reshape(n, h, t, d)

class Attention(nn.Module):
    def __init__(self, dim, heads, context=None, bias=False, norm_groups=None, eps=1e-6):
        super().__init__()
        self.heads = heads
        if norm_groups: self.group_norm = nn.GroupNorm(norm_groups, dim, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(i, dim, bias=bias) for i in (dim, context or dim, context or dim))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
    def forward(self, x, context=None):
        context = x if context is None else context
        split = lambda y: y.reshape(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)
        y = sdpa(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out[0](y.transpose(1, 2).reshape(x.shape))

class SpatialAttention(Attention):
    """Attention over the points of a map, with its norm and residual: UNet2DModel and the middle of the autoencoder."""
    def __init__(self, dim, heads, groups, eps):
        super().__init__(dim, heads, bias=True, norm_groups=groups, eps=eps)
    def forward(self, x):
        y = super().forward(self.group_norm(x).flatten(2).transpose(1, 2))
        return x + y.transpose(1, 2).reshape(x.shape)

class Proj(nn.Module):
    def __init__(self, i, o, gated):
        super().__init__()
        self.proj, self.gated = nn.Linear(i, 2 * o if gated else o), gated
    def forward(self, x):
        if not self.gated: return F.gelu(self.proj(x), approximate="tanh")
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)

class FeedForward(nn.Module):
    def __init__(self, dim, gated=True):
        super().__init__()
        self.net = nn.ModuleList([Proj(dim, 4 * dim, gated), nn.Identity(), nn.Linear(4 * dim, dim)])
    def forward(self, x):
        return self.net[2](self.net[0](x))

class Block(nn.Module):
    def __init__(self, dim, heads, context):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.attn1, self.attn2, self.ff = Attention(dim, heads), Attention(dim, heads, context), FeedForward(dim)
    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))

class Transformer(nn.Module):
    def __init__(self, dim, heads, context, groups, linear, depth):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, dim, 1e-6)
        make = (lambda: nn.Linear(dim, dim)) if linear else (lambda: nn.Conv2d(dim, dim, 1))
        self.proj_in, self.proj_out = make(), make()
        self.transformer_blocks = nn.ModuleList([Block(dim, heads, context) for _ in range(depth)])
    def forward(self, x, context):
        n, c, h, w = x.shape
        tokens = lambda y: y.permute(0, 2, 3, 1).reshape(n, h * w, c)
        image = lambda y: y.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()
        y = self.norm(x)
        y = self.proj_in(tokens(y)) if self.linear else tokens(self.proj_in(y))
        for block in self.transformer_blocks: y = block(y, context)
        return x + (image(self.proj_out(y)) if self.linear else self.proj_out(image(y)))

class Resnet(nn.Module):
    def __init__(self, i, o, temb, groups, eps):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, i, eps), nn.GroupNorm(groups, o, eps)
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        if temb: self.time_emb_proj = nn.Linear(temb, o)
        if i != o: self.conv_shortcut = nn.Conv2d(i, o, 1)
    def forward(self, x, temb=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if temb is not None: h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)

class Down(nn.Module):
    def __init__(self, c, padding=1):
        super().__init__()
        self.padding, self.conv = padding, nn.Conv2d(c, c, 3, stride=2, padding=padding)
    def forward(self, x):
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))

class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
    def forward(self, x, size=None):
        return self.conv(F.interpolate(x, size=size) if size else F.interpolate(x, scale_factor=2.0))

class TimeEmbedding(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(i, o), nn.Linear(o, o)
    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))

def sinusoid(t, dim, shift=0.0):
    half = dim // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - shift))[None]
    return torch.cat([angles.cos(), angles.sin()], -1)

class Level(nn.Module):
    """One level of a U-Net: its residual blocks, each followed by a transformer where there is one, and its resampling."""
    def __init__(self, widths, o, temb, attend, groups, eps, down=None, up=None):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(i, o, temb, groups, eps) for i in widths])
        if attend: self.attentions = nn.ModuleList([attend(o) for _ in widths])
        if down: self.downsamplers = nn.ModuleList([down])
        if up: self.upsamplers = nn.ModuleList([up])

def per_level(value, n):
    return list(value) if isinstance(value, (list, tuple)) else [value] * n

class UNet2DCondition(nn.Module):
    def __init__(self, config):
        super().__init__()
        g = lambda key, default=None: config.get(key, default)
        channels, n = config["block_out_channels"], len(config["block_out_channels"])
        groups, eps, context = g("norm_num_groups", 32), g("norm_eps", 1e-5), config["cross_attention_dim"]
        linear, self.shift = g("use_linear_projection", False), g("freq_shift", 0)
        heads, layers = per_level(config["attention_head_dim"], n), per_level(config["layers_per_block"], n)
        depth = per_level(g("transformer_layers_per_block", 1), n)
        temb = channels[0] * 4
        attend = lambda i: lambda c: Transformer(c, heads[i], context, groups, linear, depth[i])
        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], temb)
        self.down_blocks, self.up_blocks, skips, c = nn.ModuleList(), nn.ModuleList(), [channels[0]], channels[0]
        for i, kind in enumerate(config["down_block_types"]):
            o, last = channels[i], i == n - 1
            widths = [c] + [o] * (layers[i] - 1)
            self.down_blocks.append(Level(widths, o, temb, attend(i) if kind.startswith("Cross") else None, groups, eps,
                                          down=None if last else Down(o, g("downsample_padding", 1))))
            skips += [o] * (layers[i] + (not last)); c = o
        self.mid_block = Level([c, c], c, temb, None, groups, eps)
        self.mid_block.attentions = nn.ModuleList([attend(n - 1)(c)])
        for j, kind in enumerate(config["up_block_types"]):
            i = n - 1 - j
            o, widths = channels[i], []
            for _ in range(layers[i] + 1): widths.append(c + skips.pop()); c = o
            self.up_blocks.append(Level(widths, o, temb, attend(i) if kind.startswith("Cross") else None, groups, eps,
                                        up=Up(o) if i > 0 else None))
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps)
        self.conv_out = nn.Conv2d(channels[0], config["out_channels"], 3, padding=1)
    def forward(self, x, t, context):
        e = self.time_embedding(sinusoid(t, self.conv_in.out_channels, self.shift))
        h = self.conv_in(x); skips = [h]
        run = lambda level, k, h: level.attentions[k](r, context) if (r := level.resnets[k](h, e)) is not None and hasattr(level, "attentions") else r
        for level in self.down_blocks:
            for k in range(len(level.resnets)): h = run(level, k, h); skips.append(h)
            if hasattr(level, "downsamplers"): h = level.downsamplers[0](h); skips.append(h)
        m = self.mid_block
        h = m.resnets[1](m.attentions[0](m.resnets[0](h, e), context), e)
        for level in self.up_blocks:
            for k in range(len(level.resnets)): h = run(level, k, torch.cat([h, skips.pop()], 1))
            if hasattr(level, "upsamplers"): h = level.upsamplers[0](h, skips[-1].shape[2:])
        return self.conv_out(F.silu(self.conv_norm_out(h)))

class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        channels, groups = config["block_out_channels"], config["norm_num_groups"]
        c = channels[-1]
        self.conv_in = nn.Conv2d(config["latent_channels"], c, 3, padding=1)
        self.mid_block = Level([c, c], c, None, None, groups, 1e-6)
        self.mid_block.attentions = nn.ModuleList([SpatialAttention(c, 1, groups, 1e-6)])
        self.up_blocks = nn.ModuleList()
        for i, o in reversed(list(enumerate(channels))):
            widths = [c] + [o] * config["layers_per_block"]
            self.up_blocks.append(Level(widths, o, None, None, groups, 1e-6, up=Up(o) if i > 0 else None)); c = o
        self.conv_norm_out = nn.GroupNorm(groups, c, 1e-6)
        self.conv_out = nn.Conv2d(c, config["out_channels"], 3, padding=1)
    def forward(self, z):
        m = self.mid_block
        h = m.resnets[1](m.attentions[0](m.resnets[0](self.conv_in(z))))
        for level in self.up_blocks:
            for r in level.resnets: h = r(h)
            if hasattr(level, "upsamplers"): h = level.upsamplers[0](h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))

class AutoencoderDecoder(nn.Module):
    """The half of AutoencoderKL that turns latents into pictures."""
    def __init__(self, config):
        super().__init__()
        c = config["latent_channels"]
        self.post_quant_conv, self.decoder = nn.Conv2d(c, c, 1), Decoder(config)
    def forward(self, z):
        return self.decoder(self.post_quant_conv(z))

def positions(dim, size):
    """Sine and cosine of the column, then of the row."""
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64), indexing="ij")
    parts = [f(p.reshape(-1, 1) * omega) for p in (x, y) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, 1).float()[None]

class DiTNorm(nn.Module):
    """The six modulations of a block, from its own embeddings of time and class."""
    def __init__(self, dim, classes):
        super().__init__()
        self.emb = nn.Module()
        self.emb.timestep_embedder = TimeEmbedding(256, dim)
        self.emb.class_embedder = nn.Module()
        self.emb.class_embedder.embedding_table = nn.Embedding(classes + 1, dim)
        self.linear = nn.Linear(dim, 6 * dim)
    def embed(self, t, y):
        return self.emb.timestep_embedder(sinusoid(t, 256, 1.0)) + self.emb.class_embedder.embedding_table(y)
    def forward(self, t, y):
        return self.linear(F.silu(self.embed(t, y)))[:, None].chunk(6, -1)

class DiTBlock(nn.Module):
    def __init__(self, dim, heads, classes):
        super().__init__()
        self.norm1, self.attn1, self.ff = DiTNorm(dim, classes), Attention(dim, heads, bias=True), FeedForward(dim, gated=False)
    def forward(self, x, t, y):
        s1, a1, g1, s2, a2, g2 = self.norm1(t, y)
        norm = lambda h, eps: F.layer_norm(h, h.shape[-1:], eps=eps)
        x = x + g1 * self.attn1(norm(x, 1e-6) * (1 + a1) + s1)
        return x + g2 * self.ff(norm(x, 1e-5) * (1 + a2) + s2)

class DiT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.patch, self.out = config["patch_size"], config["out_channels"]
        heads, dim = config["num_attention_heads"], config["num_attention_heads"] * config["attention_head_dim"]
        self.pos_embed = nn.Module()
        self.pos_embed.proj = nn.Conv2d(config["in_channels"], dim, self.patch, stride=self.patch)
        self.table = positions(dim, config["sample_size"] // self.patch)
        self.transformer_blocks = nn.ModuleList([DiTBlock(dim, heads, config["num_embeds_ada_norm"]) for _ in range(config["num_layers"])])
        self.proj_out_1, self.proj_out_2 = nn.Linear(dim, 2 * dim), nn.Linear(dim, self.patch ** 2 * self.out)
    def forward(self, x, t, y):
        h = self.pos_embed.proj(x); n, d, rows, columns = h.shape
        h = h.flatten(2).transpose(1, 2) + self.table
        for block in self.transformer_blocks: h = block(h, t, y)
        shift, scale = self.proj_out_1(F.silu(self.transformer_blocks[0].norm1.embed(t, y)))[:, None].chunk(2, -1)
        h = self.proj_out_2(F.layer_norm(h, (d,), eps=1e-6) * (1 + scale) + shift)
        h = h.reshape(n, rows, columns, self.patch, self.patch, self.out)
        return torch.einsum("nhwpqc->nchpwq", h).reshape(n, self.out, rows * self.patch, columns * self.patch)
