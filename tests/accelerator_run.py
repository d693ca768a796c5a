"""Heads and GPT-2 small on an accelerator, beside dense. Not part of the test run.

    python tests/accelerator_run.py --out docs/data/accelerator.json

All numbers are random: time does not depend on them. What is compared is timed in turn, as by
`bench`; *compiled* is the same head through `torch.compile`, *held* is within `cached_rows`. Each
part of the result is written when it is there.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from see_min.bridge import SememeEmbedding, cached_rows, swap_embedding
from see_min.experiments import benchmark, reports
from see_min.experiments.benchmark import CALLS, call_once, measure_calls
from see_min.storage.files import write_atomic

RATIO, SEED = 20, 0
SIZES = {(50257, 768): (1, 1024, 8192), (128256, 4096): (1, 4096)}  # (V, D): hidden states
BATCH, WINDOW, PROMPT, NEW = 8, 1024, 16, 64
SEQUENCES = (1, 32)  # that are generated at once


class Compiled(nn.Module):
    """A module whose scores go through the compiler."""

    def __init__(self, module):
        super().__init__()
        self.module, self.scores = module, torch.compile(module.scores, dynamic=False)


def made_up(V, D, count="bytes"):
    """A SememeEmbedding of 1/20 of the bytes, or of the parameters of E, of random numbers."""
    task = benchmark.Bench(rows=V, ratio=RATIO)
    words, annotations = benchmark.synthetic_vocabulary(V, SEED)
    name = "see" if count == "bytes" else "see, by parameters"
    plan = benchmark.plans(task, D, annotations)[name]
    return benchmark.made_up_encoding(plan, words, annotations, SEED, RATIO)


def heads(V, D, counts, device, dtype, repeats):
    """A row per number of states, call and method."""
    dense = benchmark.Dense(V, D).to(device, dtype)
    modules = {"dense": dense, "see": SememeEmbedding(made_up(V, D)).to(device, dtype)}
    modules["see, by parameters"] = SememeEmbedding(made_up(V, D, "parameters")).to(device, dtype)
    rows = []
    for count in counts:
        h = torch.randn(count, D, device=device, dtype=dtype).requires_grad_()
        gradient = torch.randn(count, V, device=device, dtype=dtype)
        if count > 1:
            modules["see, compiled"] = Compiled(modules["see"])
        for call in CALLS:
            given = None if call == "forward" else gradient
            calls = {name: partial(call_once, module.scores, h, given, [*module.parameters(), h])
                     for name, module in modules.items()}
            contexts = {}
            for name in ("see", "see, by parameters") if call == "forward" else ():
                held = f"{name}, held"
                calls[held], contexts[held] = calls[name], partial(cached_rows, modules[name])
            numbers = measure_calls(calls, repeats, torch.device(device), contexts)
            rows += [{"part": "head", "V": V, "D": D, "states": count, "call": call,
                      "method": name, "dtype": str(dtype).removeprefix("torch."), **own}
                     | {"ratio": own["ms"] / numbers["dense"]["ms"]}
                     for name, own in numbers.items()]
            show(rows[-len(numbers):])
    return rows


def gpt2(device, repeats):
    """Forward, training and generation of GPT-2 small in bfloat16, dense and with `see`."""
    models = {name: GPT2LMHeadModel(GPT2Config()).to(device, torch.bfloat16)
              for name in ("dense", "see")}
    V, D = models["dense"].transformer.wte.weight.shape
    swap_embedding(models["see"], made_up(V, D))
    ids, rows = torch.randint(V, (BATCH, WINDOW), device=device), []
    optimizers = {name: torch.optim.AdamW(model.parameters(), fused=device == "cuda")
                  for name, model in models.items()}

    def forward(name):
        with torch.no_grad():
            return models[name].eval()(ids).logits

    def training(name):
        loss = models[name].train()(ids, labels=ids).loss
        loss.backward()
        optimizers[name].step()
        optimizers[name].zero_grad()
        return loss.detach()

    def generation(name, sequences):
        start = ids.flatten()[: sequences * PROMPT].view(sequences, PROMPT)
        return models[name].eval().generate(
            start, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)

    parts = {"forward": (forward, BATCH * WINDOW), "training": (training, BATCH * WINDOW)}
    for count in SEQUENCES:
        work = partial(generation, sequences=count)
        parts[f"generation, {count} at once"] = work, count * NEW
    for part, (work, tokens) in parts.items():
        calls = {name: partial(work, name) for name in models}
        held = partial(cached_rows, models["see"])
        contexts = {"see": held} if part.startswith("generation") else {}
        numbers = measure_calls(calls, repeats, torch.device(device), contexts)
        rows += [{"part": "gpt2", "call": part, "method": name, **own,
                  "tokens_per_second": round(1000 * tokens / own["ms"]),
                  "ratio": own["ms"] / numbers["dense"]["ms"]} for name, own in numbers.items()]
        show(rows[-len(numbers):])
    return rows


def show(rows):
    for row in rows:
        what = " ".join(str(row.get(key, "")) for key in ("part", "D", "states", "call", "method"))
        print(f"{what}: {row['ms']:.3f} ms ({row['low']:.3f} to {row['high']:.3f}), "
              f"{row['ratio']:.2f} of dense, {row.get('tokens_per_second', '')}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--parts", nargs="+", default=["50257", "128256", "gpt2"])
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    card = torch.cuda.get_device_name() if a.device == "cuda" else a.device
    result = {"machine": card, "environment": reports.environment(), "rows": []}
    for part in a.parts:
        if part == "gpt2":
            result["rows"] += gpt2(a.device, a.repeats)
        else:
            (V, D), counts = next(size for size in SIZES.items() if size[0][0] == int(part))
            result["rows"] += heads(V, D, counts, a.device, torch.bfloat16, a.repeats)
        write_atomic(a.out, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
