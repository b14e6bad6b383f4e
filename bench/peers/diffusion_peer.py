"""Times PyTorch (CPU, eager) on one case of the diffusion benchmark. Reads {"threads", "case", "weights", "inputs",
"output", "budget"} as JSON from stdin; writes its result to the file "output" and one JSON line to stdout."""
import json, resource, sys, time
import torch
from diffusion_nets import AutoencoderDecoder, DiT, UNet2DCondition
from sdseg_net import SDSeg
from safefile import load, save

def build(make, config, weights):
    """The network with the weights in place of its own: no second copy is ever made."""
    model = make(config)
    own = model.state_dict(keep_vars=True)
    missing = [name for name in own if name not in weights]
    if missing: raise KeyError(f"the file of weights lacks {missing[:5]}")
    for name, parameter in own.items():
        if parameter.shape != weights[name].shape: raise ValueError(f"{name}: {parameter.shape} and {weights[name].shape}")
        parameter.requires_grad_(False)
        parameter.data = weights[name]
    return model.eval()

def ddim(case, weights, inputs):
    """20 steps with guidance, both halves in one batch: x = a x + b eps at each step."""
    model, scale = build(UNet2DCondition, case["config"], weights), case["guidance"]
    def run():
        x = inputs["latents"]
        for t, a, b in case["steps"]:
            eps = model(torch.cat([x, x]), torch.tensor([t, t]), inputs["context"])
            without, with_ = eps.chunk(2)
            x = a * x + b * (without + scale * (with_ - without))
        return x
    return run

def dit(case, weights, inputs):
    model = build(DiT, case["config"], weights)
    return lambda: model(inputs["latents"], inputs["timestep"], inputs["labels"])

def decode(case, weights, inputs):
    model = build(AutoencoderDecoder, case["config"], weights)
    return lambda: model(inputs["latents"])

def sdseg(case, weights, inputs):
    model = SDSeg(weights, case["groups"])
    return lambda: model(inputs["image"], inputs["noise"], *(case[name] for name in ("alpha", "sigma", "t")))

CASES = {f.__name__: f for f in (ddim, dit, decode, sdseg)}

def main():
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    case = request["case"]
    run = CASES[case["kind"]](case, load(request["weights"]), load(request["inputs"]))
    with torch.inference_mode():
        save(request["output"], {"output": run()})
        times, end = [], time.perf_counter() + request["budget"]
        while time.perf_counter() < end or len(times) < 2:
            start = time.perf_counter(); run(); times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": min(times), "peakBytes": peak, "version": torch.__version__}))

main()
