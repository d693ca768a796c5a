"""`evaluate`: the metric of a Hugging Face model in a folder, plain or compressed."""

import sys

from see_min.bridge.model import device_memory
from see_min.experiments.engine import check_files
from see_min.experiments.folders import FOLDERS, FolderSettings, text_hash
from see_min.experiments.hf_models import read_record
from see_min.experiments.options import add_flags, given_settings
from see_min.toy.training import pick_device


@device_memory()
def measure_folder(model, task=None, **files):
    """(metric, value, note) of a model in a folder.

    A compressed folder is measured as its report was where the text is the same: on the lines that
    were held out. The note says what differs.
    """
    record = read_record(model)
    task = task or record.get("task", "encoder")
    recorded = record.get("task") == task
    sizes = {"block_size": record["block_size"]} if recorded else {}
    settings = FolderSettings(model=model, task=task, **sizes, **files)
    check_files(settings, FOLDERS[task].measured)
    subject = FOLDERS[task](settings, pick_device(settings.device))
    pretrained = subject.load()
    same = recorded and record["text"] == text_hash(settings)
    subject.read_text(held_out=same and task != "encoder")
    note = "all of the text"
    if recorded:
        which = "the data of the report" if same else "other data than those of the report"
        note = f"{which}, which has {record['value']:.4f}"
    return subject.metric, subject.score(pretrained)[0], note


def add_arguments(parser):
    """The flags of `evaluate`."""
    parser.add_argument("model", metavar="FOLDER", help="of a Hugging Face model, or of `compress`")
    parser.add_argument("--task", choices=tuple(FOLDERS),
                        help="default: that of its compression, else encoder")
    add_flags(parser, "corpus", "parallel", "sts", "device")


def run(arguments, command):
    """Print the metric; on stderr, on what it was measured."""
    metric, value, note = measure_folder(**given_settings(arguments))
    print(f"{metric} {value:.4f}")
    print(f"measured on {note}", file=sys.stderr)
