"""SDSeg's one step in plain PyTorch, with the parameter names of the library's checkpoints: the picture's encoder, the
U-Net at the last timestep, the decoder of the mask. Used by diffusion_peer.py."""
import torch
import torch.nn.functional as F

class SDSeg:
    def __init__(self, weights, groups):
        self.w, self.groups = weights, groups

    def conv(self, x, key, stride=1, padding=1):
        return F.conv2d(x, self.w[key + ".weight"], self.w[key + ".bias"], stride=stride, padding=padding)

    def norm(self, x, key, eps):
        return F.group_norm(x, self.groups, self.w[key + ".weight"], self.w[key + ".bias"], eps)

    def linear(self, x, key):
        return F.linear(x, self.w[key + ".weight"], self.w[key + ".bias"])

    def resnet(self, x, key):
        """A block of the autoencoder."""
        y = self.conv(F.silu(self.norm(x, key + ".norm1", 1e-6)), key + ".conv1")
        y = self.conv(F.silu(self.norm(y, key + ".norm2", 1e-6)), key + ".conv2")
        return (self.conv(x, key + ".conv_shortcut", padding=0) if key + ".conv_shortcut.weight" in self.w else x) + y

    def middle(self, x, key):
        return self.resnet(self.resnet(x, key + ".mid_block.resnets.0"), key + ".mid_block.resnets.1")

    def end(self, x, key):
        return self.conv(F.silu(self.norm(x, key + ".conv_norm_out", 1e-6)), key + ".conv_out")

    def encode(self, x, key):
        h = self.conv(x, key + ".conv_in")
        for i in range(3):
            h = self.resnet(h, f"{key}.down_blocks.{i}.resnets.0")
            if i < 2: h = self.conv(F.pad(h, (0, 1, 0, 1)), f"{key}.down_blocks.{i}.downsamplers.0.conv", 2, 0)
        return self.end(self.middle(h, key), key)

    def decode(self, z):
        key = "autoencoder.decoder"
        h = self.conv(self.conv(z, "autoencoder.post_quant_conv", padding=0), key + ".conv_in")
        h = self.middle(h, key)
        for i in range(3):
            for j in range(2): h = self.resnet(h, f"{key}.up_blocks.{i}.resnets.{j}")
            if i < 2: h = self.conv(F.interpolate(h, scale_factor=2, mode="nearest"), f"{key}.up_blocks.{i}.upsamplers.0.conv")
        return self.end(h, key)

    def block(self, x, key, time, resample=None):
        """A block of the U-Net, with scale and shift from the time."""
        key = "network.unet." + key
        y = F.silu(self.norm(x, key + ".in_layers.0", 1e-5))
        if resample: x, y = resample(x), resample(y)
        y = self.conv(y, key + ".in_layers.2")
        scale, shift = self.linear(F.silu(time), key + ".emb_layers.1")[:, :, None, None].chunk(2, 1)
        y = self.norm(y, key + ".out_layers.0", 1e-5) * (1 + scale) + shift
        y = self.conv(F.silu(y), key + ".out_layers.3")
        skip = key + ".skip_connection"
        return (self.conv(x, skip, padding=0) if skip + ".weight" in self.w else x) + y

    def unet(self, x, t):
        unet = "network.unet."
        half = self.w[unet + "time_embed.0.weight"].shape[1] // 2
        angles = t[:, None] * torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(half) / half)
        time = torch.cat([angles.cos(), angles.sin()], 1)
        time = self.linear(F.silu(self.linear(time, unet + "time_embed.0")), unet + "time_embed.2")
        down, up = (lambda y: F.avg_pool2d(y, 2)), (lambda y: F.interpolate(y, scale_factor=2, mode="nearest"))
        h = self.conv(x, unet + "input_blocks.0.0")
        skips = [h]
        for i, resample in ((1, None), (2, down), (3, None)):
            h = self.block(h, f"input_blocks.{i}.0", time, resample)
            skips.append(h)
        for i in (0, 1): h = self.block(h, f"middle_block.{i}", time)
        for i in range(4):
            h = self.block(torch.cat([h, skips.pop()], 1), f"output_blocks.{i}.0", time)
            if i == 1: h = self.block(h, "output_blocks.1.1", time, up)
        return self.conv(F.silu(self.norm(h, unet + "out.0", 1e-5)), unet + "out.2")

    def __call__(self, image, noise, alpha, sigma, t):
        condition = self.conv(self.encode(image, "network.vision.encoder"), "network.vision.out", padding=0)
        v = self.unet(torch.cat([noise, condition], 1), torch.tensor([float(t)]))
        return ((self.decode(alpha * noise - sigma * v) + 1) / 2).clamp(0, 1).mean(1, keepdim=True)
