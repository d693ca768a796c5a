"""`evaluate`: the metric of a Hugging Face model in a folder, plain or compressed, and its cost."""

import resource
import sys
import time

import torch

from see_min.bridge.model import device_memory
from see_min.errors import require
from see_min.experiments.engine import check_files
from see_min.experiments.folders import FOLDERS, FolderSettings, text_hash
from see_min.experiments.hf_models import model_folder, read_record
from see_min.experiments.options import add_flags, given_settings
from see_min.toy.training import pick_device

ROWS, TURNS = 16, 5  # of a batch whose speed is measured; the fastest turn counts


@device_memory()
def measure_folder(model, task=None, **files):
    """(metric, value, note, cost) of a model in a folder.

    A compressed folder is measured as its report was where the text is the same: on the lines that
    were held out. The note says what differs; the cost is what loading and using the model took.
    """
    record = read_record(model)
    task = task or record.get("task", "encoder")
    recorded = record.get("task") == task
    sizes = {"block_size": record["block_size"]} if recorded else {}
    settings = FolderSettings(model=model, task=task, **sizes, **files)
    check_files(settings, FOLDERS[task].measured)
    subject = FOLDERS[task](settings, pick_device(settings.device))
    pretrained, cost = loaded(subject)
    same = recorded and record["text"] == text_hash(settings)
    subject.read_text(held_out=same and task != "encoder")
    note = "all of the text"
    if recorded:
        which = "the data of the report" if same else "other data than those of the report"
        note = f"{which}, which has {record['value']:.4f}"
    return subject.metric, subject.score(pretrained)[0], note, cost


def loaded(subject):
    """(the model of a subject, what it costs as text): disk, loading, memory, tokens per second.

    The peak is that of memory beyond what Python and its packages took before.
    """
    for name in ("AutoModel", "AutoTokenizer", "PreTrainedModel"):
        getattr(require("transformers"), name)  # importing is no part of loading
    before, start = peak_memory(subject.device), time.perf_counter()
    model = subject.load()
    seconds, speed = time.perf_counter() - start, tokens_per_second(model)
    peak = peak_memory(subject.device) - before
    files = model_folder(subject.settings.model).rglob("*")
    size = sum(path.stat().st_size for path in files if path.is_file())
    return model, (f"{size / 1e6:,.1f} MB on disk, loaded in {seconds:.1f} s, "
                   f"peak {peak / 1e6:,.0f} MB, {speed:,.0f} tokens per second")


@torch.no_grad()
def tokens_per_second(model):
    """Of forward passes of ROWS full rows, with scores of all words where there are any."""
    times = []
    ids = torch.randint(5, model.rows, (ROWS, model.block_size), device=model.device)
    for _ in range(TURNS):
        start = time.perf_counter()
        states = model.hidden_states(*[ids] * len(model.task.embeddings))[-1]
        if model.head_name is not None:
            states = model.logits(states)
        float(states.flatten()[0])  # wait for the device
        times.append(time.perf_counter() - start)
    return ids.numel() / min(times)


def peak_memory(device):
    """The most bytes so far, of the device where it counts them."""
    if device.type != "cpu":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def add_arguments(parser):
    """The flags of `evaluate`."""
    parser.add_argument("model", metavar="FOLDER", help="of a Hugging Face model, or of `compress`")
    parser.add_argument("--task", choices=tuple(FOLDERS),
                        help="default: that of its compression, else encoder")
    add_flags(parser, "corpus", "parallel", "sts", "device")


def run(arguments, command):
    """Print the metric; on stderr, on what it was measured, and what the folder costs."""
    metric, value, note, cost = measure_folder(**given_settings(arguments))
    print(f"{metric} {value:.4f}")
    print(f"measured on {note}\n{cost}", file=sys.stderr)
