"""Times PyTorch (CPU) on the cases of the benchmark. Reads {"threads", "mode", "cases"} as JSON from stdin, writes one JSON
line per case: {"name", "seconds", "peakBytes"}. Run by bench/run.ts when a Python with torch is found. The mode is what
somebody who wants speed would choose from: "eager", "channels_last" (maps of convolutions with their channels last) or
"compile" (torch.compile). AdamW is the fused one in all of them."""
import json, resource, sys, time
import torch
import torch.nn.functional as F

def attend(q, k, v):
    """PyTorch's fused attention, or the same written out where a PyTorch before 2.0 has none."""
    if hasattr(F, "scaled_dot_product_attention"): return F.scaled_dot_product_attention(q, k, v)
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v

def best(f, budget):
    f(); f()
    times = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times) < 3:
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times)

def param(*shape):
    return torch.nn.Parameter(torch.randn(*shape) * (torch.tensor(shape[1:]).prod().item() ** -0.5 if len(shape) > 1 else 0.1))

MODE = "eager"

def laid_out(x):
    """Maps and kernels of convolutions as the mode wants them."""
    return x.to(memory_format=torch.channels_last) if MODE == "channels_last" and x.dim() == 4 else x

def prepared(f):
    """A function or network as the mode runs it."""
    if MODE == "channels_last" and isinstance(f, torch.nn.Module): return f.to(memory_format=torch.channels_last)
    return torch.compile(f) if MODE == "compile" else f

def matmul(m, k, n):
    a, b = torch.randn(m, k), torch.randn(k, n)
    return lambda: a @ b

def conv(n, c, size, k):
    x, w, b = laid_out(torch.randn(n, c, size, size)), laid_out(param(k, c, 3, 3).data), param(k)
    f = prepared(lambda x: F.conv2d(x, w, b, padding=1))
    @torch.no_grad()
    def run(): return f(x)
    return run

def conv_step(n, c, size, k):
    x = laid_out(torch.randn(n, c, size, size)).requires_grad_()
    w, b = laid_out(param(k, c, 3, 3).data).requires_grad_(), param(k)
    dy = laid_out(torch.randn(n, k, size, size))
    f = prepared(lambda x, w, b: F.conv2d(x, w, b, padding=1))
    def run():
        x.grad = w.grad = b.grad = None
        f(x, w, b).backward(dy)
    return run

def attention(n, heads, tokens, dim):
    q, k, v = (torch.randn(n, heads, tokens, dim) for _ in range(3))
    f = prepared(attend)
    @torch.no_grad()
    def run(): return f(q, k, v)
    return run

def norm_silu(n, c, size):
    x, w, b = laid_out(torch.randn(n, c, size, size)), torch.ones(c), torch.zeros(c)
    f = prepared(lambda x: F.silu(F.group_norm(x, 32, w, b)))
    @torch.no_grad()
    def run(): return f(x)
    return run

def adamw(count, tensors):
    ps = [param(count // tensors) for _ in range(tensors)]
    for p in ps: p.grad = torch.randn_like(p)
    opt = torch.optim.AdamW(ps, lr=1e-4, fused=True)
    return opt.step

class Res(torch.nn.Module):
    def __init__(self, i, o, t):
        super().__init__()
        self.norm1 = torch.nn.GroupNorm(32, i); self.conv1 = torch.nn.Conv2d(i, o, 3, padding=1)
        self.emb = torch.nn.Linear(t, o)
        self.norm2 = torch.nn.GroupNorm(32, o); self.conv2 = torch.nn.Conv2d(o, o, 3, padding=1)
        self.skip = torch.nn.Conv2d(i, o, 1) if i != o else torch.nn.Identity()
    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))

class Attn(torch.nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads; self.norm = torch.nn.GroupNorm(32, c)
        self.qkv = torch.nn.Linear(c, 3 * c); self.out = torch.nn.Linear(c, c)
    def forward(self, x):
        n, c, h, w = x.shape
        t = self.norm(x).reshape(n, c, h * w).transpose(1, 2)
        q, k, v = self.qkv(t).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        o = attend(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(o).transpose(1, 2).reshape(n, c, h, w)

class UNet(torch.nn.Module):
    def __init__(self, channels, in_channels):
        super().__init__()
        c0, t = channels[0], channels[0] * 4
        self.time = torch.nn.Sequential(torch.nn.Linear(c0, t), torch.nn.SiLU(), torch.nn.Linear(t, t))
        self.conv_in = torch.nn.Conv2d(in_channels, c0, 3, padding=1)
        self.down, self.up, skips, c = torch.nn.ModuleList(), torch.nn.ModuleList(), [c0], c0
        for i, w in enumerate(channels):
            level = torch.nn.ModuleDict({"res": torch.nn.ModuleList()})
            for _ in range(2):
                level["res"].append(Res(c, w, t)); c = w; skips.append(c)
            if i < len(channels) - 1:
                level["down"] = torch.nn.Conv2d(c, c, 3, stride=2, padding=1); skips.append(c)
            self.down.append(level)
        self.mid1, self.attn, self.mid2 = Res(c, c, t), Attn(c, 4), Res(c, c, t)
        for i, w in reversed(list(enumerate(channels))):
            level = torch.nn.ModuleDict({"res": torch.nn.ModuleList()})
            for _ in range(3):
                level["res"].append(Res(c + skips.pop(), w, t)); c = w
            if i > 0: level["up"] = torch.nn.Conv2d(c, c, 3, padding=1)
            self.up.append(level)
        self.norm, self.conv_out = torch.nn.GroupNorm(32, c), torch.nn.Conv2d(c, in_channels, 3, padding=1)
        self.c0 = c0
    def forward(self, x, t):
        half = self.c0 // 2
        f = torch.exp(-torch.arange(half) * (9.210340371976184 / half))
        a = t[:, None] * f[None]
        e = self.time(torch.cat([a.cos(), a.sin()], 1))
        h = self.conv_in(x); skips = [h]
        for level in self.down:
            for r in level["res"]: h = r(h, e); skips.append(h)
            if "down" in level: h = level["down"](h); skips.append(h)
        h = self.mid2(self.attn(self.mid1(h, e)), e)
        for level in self.up:
            for r in level["res"]: h = r(torch.cat([h, skips.pop()], 1), e)
            if "up" in level: h = level["up"](F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.conv_out(F.silu(self.norm(h)))

class DiTBlock(torch.nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ada, self.qkv, self.out = torch.nn.Linear(d, 6 * d), torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.fc1, self.fc2 = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)
    def forward(self, x, c):
        n, l, d = x.shape
        s1, b1, g1, s2, b2, g2 = self.ada(F.silu(c))[:, None].chunk(6, -1)
        h = F.layer_norm(x, (d,), eps=1e-6) * (1 + s1) + b1
        q, k, v = self.qkv(h).reshape(n, l, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        h = attend(q, k, v).transpose(1, 2).reshape(n, l, d)
        x = x + g1 * self.out(h)
        h = F.layer_norm(x, (d,), eps=1e-6) * (1 + s2) + b2
        return x + g2 * self.fc2(F.gelu(self.fc1(h), approximate="tanh"))

class DiT(torch.nn.Module):
    def __init__(self, d, depth, heads, patch_dim):
        super().__init__()
        self.inp, self.cond = torch.nn.Linear(patch_dim, d), torch.nn.Linear(d, d)
        self.blocks = torch.nn.ModuleList([DiTBlock(d, heads) for _ in range(depth)])
        self.out = torch.nn.Linear(d, patch_dim)
    def forward(self, x, c):
        h, c = self.inp(x), self.cond(c)
        for b in self.blocks: h = b(h, c)
        return self.out(F.layer_norm(h, (h.shape[-1],), eps=1e-6))

def train_step(model, make):
    model = prepared(model)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs, target = make()
    inputs = [laid_out(x) for x in inputs]
    def run():
        opt.zero_grad(set_to_none=True)
        loss = F.mse_loss(model(*inputs), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss.item()
    return run

def forward(model, make):
    inputs, _ = make()
    inputs, model = [laid_out(x) for x in inputs], prepared(model)
    @torch.no_grad()
    def run(): return model(*inputs)
    return run

def unet(kind, channels, n, size, in_channels):
    model = UNet(channels, in_channels)
    make = lambda: ((torch.randn(n, in_channels, size, size), torch.rand(n) * 1000), torch.randn(n, in_channels, size, size))
    return (train_step if kind == "step" else forward)(model, make)

def dit(kind, d, depth, heads, n, tokens, patch_dim):
    model = DiT(d, depth, heads, patch_dim)
    make = lambda: ((torch.randn(n, tokens, patch_dim), torch.randn(n, d)), torch.randn(n, tokens, patch_dim))
    return (train_step if kind == "step" else forward)(model, make)

CASES = {f.__name__: f for f in (matmul, conv, conv_step, attention, norm_silu, adamw, unet, dit)}

def main():
    global MODE
    request = json.load(sys.stdin)
    MODE = request.get("mode", "eager")
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    for case in request["cases"]:
        run = CASES[case["kind"]](*case["args"])
        seconds = best(run, case["budget"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"name": case["name"], "seconds": seconds, "peakBytes": peak, "version": torch.__version__}), flush=True)

main()
