"""Models of transformers with the protocol of the bridge: next words, masked words, sentences, and translations."""

import copy

import numpy as np
import torch
from torch import nn

from see_min.bridge.encoder import BATCH
from see_min.bridge.finetune import Task
from see_min.bridge.layers import kept_rows
from see_min.bridge.measure import sacrebleu
from see_min.bridge.swap import input_embedding
from see_min.checks import DataError, check_at_least
from see_min.sequences import padded_rows
from see_min.similarity import cosines, rank_correlation

CLASSES = {"lm": "AutoModelForCausalLM", "mlm": "AutoModelForMaskedLM", "encoder": "AutoModel",
           "translation": "AutoModelForSeq2SeqLM"}
NEEDED = {"lm": (), "mlm": ("mask_token_id",), "encoder": ("pad_token_id",), "translation": ("pad_token_id", "eos_token_id")}


def check_task(task):
    """Return the task if a folder's model can be finetuned for it.

    Raises
    ------
    DataError
    """
    if task not in CLASSES:
        raise DataError(f"task: expected one of {', '.join(CLASSES)} for a model in a folder, got {task!r}")
    return task


class Pretrained(nn.Module):
    """A model and its tokenizer, with `hidden_states(ids)`, `logits(state)` and `forward(ids)` as the models of the bridge have.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase
    task : str
        "lm", "mlm", "encoder" or, in a `PretrainedTranslator`, "translation".
    context : int
        Positions of a window or a sentence, at most.

    Raises
    ------
    DataError
        If the task is not one of such a model, the context is longer than the model's, the tokenizer has no token that the task
        needs, or the head is not a function of the last state alone.
    """

    def __init__(self, model, tokenizer, task, context=64):
        super().__init__()
        if bool(getattr(model.config, "is_encoder_decoder", False)) != (task == "translation"):
            raise DataError(f"task: expected translation for an encoder with a decoder and for no other, got {task} for "
                            f"{type(model).__name__}")
        self.model, self.tokenizer, self.kind, self.context = model, tokenizer, check_task(task), context
        self.embedding = self._name(input_embedding(model))
        if len(tokenizer) > self.rows:
            raise DataError(f"tokenizer: expected at most {self.rows} tokens, one a row of the embedding, got {len(tokenizer)}")
        check_at_least("context", context, 1)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest and context > longest:
            raise DataError(f"context: expected at most {longest}, the positions of the model, got {context}")
        for needed in NEEDED[task]:
            if getattr(tokenizer, needed) is None:
                raise DataError(f"tokenizer: expected a {needed.removesuffix('_id')} for {task}, got none")
        self._find_head()

    def _name(self, module):
        """The dotted name of a module of the model."""
        return next(name for name, other in self.model.named_modules() if other is module)

    def _find_head(self):
        """The module that makes logits of the last state; a probe shows that nothing comes after it."""
        self.head_name = None
        if self.kind == "encoder":
            return
        self.head_name = next((name for name in ("cls", "lm_head", "embed_out") if hasattr(self.model, name)), None)
        if self.head_name is not None:
            ids = torch.tensor([[i for i in range(min(7, self.rows)) if i != self.pad]], device=self.device)  # (1, 7 or 6)
            names = ("input_ids", "decoder_input_ids")[: len(self.task.embeddings)]
            with torch.no_grad():
                whole, ours = self.model(**dict.fromkeys(names, ids)).logits, self(*[ids] * len(names))
            if whole.shape == ours.shape and torch.allclose(whole, ours, rtol=1e-2, atol=1e-3):
                return
        raise DataError(f"model: expected logits that are a head's of the last state, got {type(self.model).__name__}")

    @property
    def rows(self):
        """V."""
        return self.model.get_input_embeddings().num_embeddings

    @property
    def device(self):
        return next(self.model.parameters()).device

    @property
    def pad(self):
        """The id that fills sentences up; windows of lm and mlm are never filled up."""
        return self.tokenizer.pad_token_id if "pad_token_id" in NEEDED[self.kind] else None

    @property
    def task(self):
        """What the stages have to know."""
        return Task((f"model.{self.embedding}",), self.pad)

    @property
    def names(self):
        """The V tokens in the order of the rows; rows that no token has are called special tokens, [ROW7]."""
        named = {number: token for token, number in self.tokenizer.get_vocab().items()}
        return [named.get(row, f"[ROW{row}]") for row in range(self.rows)]

    def hidden_states(self, ids):
        mask = torch.ones_like(ids) if self.pad is None else (ids != self.pad).long()  # (b, t)
        out = self.model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return list(out.hidden_states)

    def logits(self, state):
        return getattr(self.model, self.head_name)(state)

    def forward(self, *inputs):
        return self.logits(self.hidden_states(*inputs)[-1])

    def student(self):
        """A copy whose embedding can be compressed."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "model": copy.deepcopy(self.model)}
        return twin

    def encode(self, lines, special=False):
        """Ids of each line."""
        ids = []
        for start in range(0, len(lines), BATCH):
            ids += self.tokenizer(lines[start : start + BATCH], add_special_tokens=special, truncation=special,
                                  max_length=self.context if special else None, verbose=False)["input_ids"]
        return ids

    @torch.no_grad()
    def vectors(self, sentences):
        """Mean of the last hidden states over the tokens of each sentence, (N, H); in batches of similar length."""
        ids = self.encode(sentences, special=True)
        order, out = sorted(range(len(ids)), key=lambda i: len(ids[i])), [None] * len(ids)
        for start in range(0, len(ids), BATCH):
            batch = order[start : start + BATCH]
            rows = nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in batch], True, self.pad).to(self.device)  # (b, t)
            real = (rows != self.pad)[..., None]  # (b, t, 1)
            means = (self.hidden_states(rows)[-1] * real).sum(1) / real.sum(1)  # (b, H)
            for i, mean in zip(batch, means.float().cpu()):
                out[i] = mean
        return torch.stack(out)

    def sts(self, pairs):
        """Spearman's correlation of cosines with scores of (sentence, sentence, score)."""
        one, other = (self.vectors([pair[side] for pair in pairs]) for side in (0, 1))  # (N, H)
        return rank_correlation(cosines(one.numpy(), other.numpy()), np.array([score for _, _, score in pairs]))


class PretrainedTranslator(Pretrained):
    """An encoder-decoder with one embedding, as `Pretrained`, but `hidden_states(source, target)` and `forward(source, target)`.

    Raises
    ------
    DataError
        As `Pretrained`; or if encoder and decoder have an embedding each, or nothing says what a target begins with.
    """

    def __init__(self, model, tokenizer, task="translation", context=64):
        nn.Module.__init__(self)
        sides = [input_embedding(model, side) for side in ("encoder", "decoder")]
        if sides[0] is not sides[1] and sides[0].weight is not sides[1].weight:
            raise DataError(f"model: expected one embedding for encoder and decoder, got {type(model).__name__} with two")
        self.begin = getattr(model.config, "decoder_start_token_id", None)
        self.begin = model.generation_config.decoder_start_token_id if self.begin is None else self.begin
        if self.begin is None:
            raise DataError(f"model: expected a decoder_start_token_id, got {type(model).__name__} without")
        self.scale = 1.0
        super().__init__(model, tokenizer, task, context)

    def _find_head(self):
        """As it is for a state, or for one divided by sqrt(D) as T5's."""
        try:
            super()._find_head()
        except DataError:
            self.scale = self.model.get_input_embeddings().embedding_dim**-0.5
            super()._find_head()

    @property
    def task(self):
        sides = (input_embedding(self.model, side) for side in ("encoder", "decoder"))
        return Task(tuple(f"model.{self._name(module)}" for module in sides), self.pad)

    def hidden_states(self, source, target):
        """States of the encoder, then of the decoder; of the deeper side the last ones, so that both have equally many."""
        mask = (source != self.pad).long()  # (b, s)
        encoded = self.model.get_encoder()(input_ids=source, attention_mask=mask, output_hidden_states=True)
        decoded = self.model.get_decoder()(input_ids=target, encoder_hidden_states=encoded.last_hidden_state,
                                           encoder_attention_mask=mask, output_hidden_states=True, use_cache=False)
        sides = encoded.hidden_states, decoded.hidden_states
        blocks = min(map(len, sides)) - 1
        return [state for side in sides for state in (side[0], *side[len(side) - blocks :])]

    def logits(self, state):
        scores = super().logits(state * self.scale)
        bias = getattr(self.model, "final_logits_bias", None)
        return scores if bias is None else scores + bias

    def encode_pairs(self, pairs):
        """(source, target) ids of pairs of sentences as the tokenizer writes them, without the end that `pair_batches` adds."""
        sides = []
        for key, texts in zip(("text", "text_target"), zip(*pairs)):
            ids = self.tokenizer(**{key: list(texts)}, truncation=True, max_length=self.context)["input_ids"]
            sides.append([one[:-1] if one and one[-1] == self.tokenizer.eos_token_id else one[: self.context - 1] for one in ids])
        return list(zip(*sides))

    @torch.no_grad()
    def translate(self, sentences):
        """The likeliest next token, one after the other, for each sentence; in batches of similar length."""
        from transformers import DynamicCache, EncoderDecoderCache

        ids = [[*source, self.tokenizer.eos_token_id] for source, _ in self.encode_pairs([(text, "") for text in sentences])]
        order, out = sorted(range(len(ids)), key=lambda i: len(ids[i])), [None] * len(ids)
        with kept_rows(self):
            for start in range(0, len(ids), BATCH):
                batch = order[start : start + BATCH]
                rows = torch.as_tensor(padded_rows([ids[i] for i in batch], self.pad), device=self.device)  # (b, s)
                cache = EncoderDecoderCache(DynamicCache(), DynamicCache())  # theirs has as many layers as the encoder
                found = self.model.generate(rows, attention_mask=(rows != self.pad).long(), max_new_tokens=self.context,
                                            num_beams=1, do_sample=False, past_key_values=cache)
                for i, text in zip(batch, self.tokenizer.batch_decode(found, skip_special_tokens=True)):
                    out[i] = text
        return out

    def bleu(self, pairs):
        """Corpus BLEU of the translations of (source, target) sentences, as sacrebleu computes it by default."""
        sources, targets = zip(*pairs)
        return sacrebleu().corpus_bleu(self.translate(sources), [list(targets)]).score
