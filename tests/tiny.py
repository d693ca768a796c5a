"""Small models with random weights, their words, and commands: shared by several tests."""

import pytest

from see_min.experiments.cli import main

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STEMS = [onset + rime + tail for onset in "b d f gr k l m pl s t".split()
         for rime in "ad en ilk om urt ip".split() for tail in ("", "o", "ani", "ul", "ek")]
V, D = 300, 32
WORDS = STEMS[: V - len(SPECIAL)]
# names that configurations of transformers have for sizes; each takes those it knows
SIZES = {"vocab_size": V, "hidden_size": D, "d_model": D, "intermediate_size": 48, "d_ff": 48,
         "d_kv": 16, "num_hidden_layers": 2, "num_layers": 2, "num_decoder_layers": 1,
         "num_attention_heads": 2, "num_heads": 2, "max_position_embeddings": 64}
for side, layers in (("encoder", 2), ("decoder", 1)):
    SIZES |= {f"{side}_layers": layers, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 48}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
DROPOUTS = ("dropout", "dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop",
            "hidden_dropout_prob", "attention_probs_dropout_prob")


def transformer(kind, **changes):
    """A model of transformers, without dropout; its biases of the vocabulary are not zero."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    given = SIZES | IDS | dict.fromkeys(DROPOUTS, 0.0) | {"initializer_range": 0.2, "init_std": 0.2}
    if "Generation" in kind or "Marian" in kind:
        given["decoder_start_token_id"] = 0
    make = getattr(transformers, kind)
    model = make(make.config_class(**(given | changes))).eval()
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.ndim and tensor.shape[-1] == V and "bias" in key:
            torch.nn.init.normal_(tensor)
    return model


def tokenizer(special=SPECIAL, shape="[CLS] $A [SEP]", **more):
    """Whole words; [CLS] and [SEP] around a sentence."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    whole = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    edges = [("[CLS]", 2), ("[SEP]", 3)]
    whole.post_processor = processors.TemplateProcessing(single=shape, special_tokens=edges)
    names = {f"{name.strip('[]').lower()}_token": name for name in special} | more
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, model_max_length=64,
                                                **names)


def quiet(line):
    """A log that says nothing."""


def call(capsys, *words):
    """(exit code, stdout, stderr) of a command; an exception passes through."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def refused(capsys, *words):
    """The one line of stderr of a command that must not work."""
    code, _, err = call(capsys, *words)
    assert (code, err.count("\n")) == (2, 1) and err.startswith("see_min: "), (code, err)
    return err
