"""What a model in a folder costs whoever uses it: disk, loading, memory, tokens per second.

Measured in a process of its own, so that nothing is loaded and no memory taken beforehand.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from see_min.errors import InputError, require
from see_min.experiments.hf_models import load_pretrained

ROWS, TURNS = 16, 5  # of a batch; the fastest turn counts


def folder_cost(folder, task, device="cpu", block_size=64):
    """{"bytes", "load_seconds", "peak_bytes", "tokens_per_second"} of a model in a folder.

    The peak is that of memory beside what Python and its packages take; tokens are those of
    forward passes of ROWS rows of `block_size`, scores of all words among them where there are.
    Raises InputError if the folder cannot be loaded.
    """
    command = [sys.executable, "-m", "see_min.experiments.folder_cost", folder, task, device]
    done = subprocess.run([*map(str, command), str(block_size)], text=True, capture_output=True)
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise InputError(f"{folder}: expected a model that can be measured, got {last}")
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"bytes": size, **json.loads(done.stdout.splitlines()[-1])}


def _measured(folder, task, device, block_size):
    for name in ("AutoModel", "AutoTokenizer", "PreTrainedModel"):
        getattr(require("transformers"), name)  # importing is no part of loading
    before, start = _peak(device), time.perf_counter()
    model = load_pretrained(folder, task, block_size, device)
    loaded, times = time.perf_counter() - start, []
    ids = torch.randint(5, model.rows, (ROWS, block_size), device=model.device)
    with torch.no_grad():
        for _ in range(TURNS):
            start = time.perf_counter()
            states = model.hidden_states(*[ids] * len(model.task.embeddings))[-1]
            if model.head_name is not None:
                states = model.logits(states)
            float(states.flatten()[0])  # wait for the device
            times.append(time.perf_counter() - start)
    return {"load_seconds": loaded, "peak_bytes": _peak(device) - before,
            "tokens_per_second": ids.numel() / min(times)}


def _peak(device):
    """The most bytes so far, of the device where it counts them."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    try:  # not getrusage: a new process begins with the peak of the one that started it
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:  # another system
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    folder, task, device, block_size = sys.argv[1:]
    torch.manual_seed(0)
    print(json.dumps(_measured(folder, task, device, int(block_size))))
