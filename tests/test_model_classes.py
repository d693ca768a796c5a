"""Model classes of transformers: compressed, saved, loaded in a new process, equal to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import V, tokenizer, transformer
from torch import nn

from see_min.bridge import SememeEmbedding, TiedHead, compress

pytest.importorskip("transformers")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
TWO = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": V}
SMALL = {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 3}  # the end fills up, too
SCALED = {"hidden_size_per_layer_input": 0, "sliding_window": 8}
MODELS = {  # name -> class, what its configuration has besides
    "BERT": ("BertForMaskedLM", {}),
    "GPT-2": ("GPT2LMHeadModel", {}),
    "Llama": ("LlamaForCausalLM", TIED | SMALL),
    "Llama, untied": ("LlamaForCausalLM", UNTIED | SMALL),
    "Phi-3": ("Phi3ForCausalLM", SMALL),
    "Qwen2": ("Qwen2ForCausalLM", TIED | SMALL),
    "Gemma": ("GemmaForCausalLM", SMALL),
    "Gemma 3": ("Gemma3ForCausalLM", SMALL | SCALED),
    "OPT": ("OPTForCausalLM", {"ffn_dim": 48, "word_embed_proj_dim": 16}),
    "GPT-NeoX": ("GPTNeoXForCausalLM", {}),
    "ModernBERT": ("ModernBertForMaskedLM", {"cls_token_id": 2, "sep_token_id": 3}),
    "DeBERTa-v2": ("DebertaV2ForMaskedLM", {}),
    "ALBERT": ("AlbertForMaskedLM", {"embedding_size": 16}),
    "XLM-R": ("XLMRobertaForMaskedLM", {"pad_token_id": 1}),
    "T5": ("T5ForConditionalGeneration", {}),
    "BART": ("BartForConditionalGeneration", {"scale_embedding": True}),
    "Marian": ("MarianMTModel", {}),
    "Marian, two tables": ("MarianMTModel", TWO),
    "Mamba": ("MambaForCausalLM", {}),
    "T5 encoder": ("T5EncoderModel", {}),
    "BERT encoder": ("BertModel", {}),
}
AUTO = {"MaskedLM": "AutoModelForMaskedLM", "ConditionalGeneration": "AutoModelForSeq2SeqLM",
        "MTModel": "AutoModelForSeq2SeqLM", "T5EncoderModel": "T5EncoderModel"}
ANEW = """
import json, sys, torch, see_min.bridge
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_model_classes import measured
import transformers
torch.set_num_threads(1)
found = {}
for folder, auto in json.loads(sys.argv[2]).items():
    model = getattr(transformers, auto).from_pretrained(folder)
    found[folder] = measured(model)
    model.save_pretrained(folder + " again")
torch.save(found, sys.argv[3])
"""


def measured(model):
    """Outputs for some ids, and what is generated of them."""
    ids, more = torch.arange(4, 20).reshape(2, 8), {}
    if model.config.is_encoder_decoder:
        more["decoder_input_ids"] = ids
    with torch.no_grad():
        out = [model(input_ids=ids, **more)[0]]
        if model.can_generate():
            how = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids)}
            out += [model.generate(ids, num_beams=beams, **how) for beams in (1, 2)]
    return out


def compressed(name):
    kind, changes = MODELS[name]
    model = transformer(kind, **changes)
    layers = {"": tokenizer().get_vocab()}
    if changes is TWO:
        sides = ("model.encoder.embed_tokens", "model.decoder.embed_tokens")
        layers = dict.fromkeys(sides, tokenizer().get_vocab())
    else:
        nn.init.normal_(model.get_input_embeddings().weight)  # a trained padding row is not zero
        layers = tokenizer().get_vocab()
    compress(model, layers, 3, lexicon="none", sweeps=1)
    return model


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{name: (model, what it gives, what a new process gives, folder)}."""
    place, models, folders = tmp_path_factory.mktemp("classes"), {}, {}
    for name, (kind, _) in MODELS.items():
        models[name], folder = compressed(name), place / name
        models[name].save_pretrained(folder)
        ending = next((end for end in AUTO if kind.endswith(end)), None)
        folders[str(folder)] = AUTO.get(ending) or (
            "AutoModelForCausalLM" if "LM" in kind else "AutoModel")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ANEW, str(ROOT / "tests"), json.dumps(folders)]
    done = subprocess.run([*command, str(place / "found.pt")], env=environment, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(place / "found.pt")
    return {name: (model, measured(model), found[str(place / name)], place / name)
            for name, model in models.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_computes_and_generates_the_same_to_the_bit(results, name):
    model, ours, theirs, folder = results[name]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
    own = [part for part in model.modules() if isinstance(part, SememeEmbedding)]
    heads = [part for part in model.modules() if isinstance(part, TiedHead)]
    assert len(own) == (2 if "two" in name else 1)
    assert all(head.embedding in own for head in heads)
    for file in ("config.json", "model.safetensors"):
        again = Path(f"{folder} again") / file
        assert (folder / file).read_bytes() == again.read_bytes()
