"""The metric of a fit: second moments, ties, frozen and half models, what is refused."""

import types

import numpy as np
import pytest
import torch
from tiny import WORDS, D, tokenizer, transformer
from torch import nn

from see_min.bridge.metric import measure_metric
from see_min.errors import InputError
from see_min.experiments.engine import Experiment, Settings, Subject
from see_min.toy.data import IGNORE, Batch
from see_min.toy.models import GPTConfig, TinyGPT

torch.set_num_threads(1)
IDS = torch.tensor([[1, 2, 5, 0], [3, 3, 4, 0]])


class Linear(nn.Module):
    """y = A x of each row x that is read, a tied head, and a second name of the embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (nn.Embedding(7, 5, padding_idx=0) for _ in range(2))
        self.second.weight = self.first.weight
        self.A, self.head = nn.Linear(5, 3, bias=False), nn.Linear(5, 7, bias=False)
        self.head.weight = self.first.weight

    def forward(self, ids):
        return self.A(self.second(ids))


def test_rows_that_another_module_of_the_weight_reads_count_too():
    """The control is the name that nobody reads."""
    model = Linear()
    both = measure_metric([model.first, model.second], model, [IDS])
    assert np.array_equal(both, measure_metric(model.second, model, [IDS]))
    with pytest.raises(InputError, match="^metric: expected a text whose rows the model reads"):
        measure_metric(model.first, model, [IDS])


def test_a_frozen_model_has_the_same_metric_and_keeps_no_gradient_and_no_hook():
    model = Linear()
    free = measure_metric(model.second, model, [IDS], seed=3)
    assert np.array_equal(measure_metric(model.second, model.requires_grad_(False), [IDS], seed=3),
                          free)
    assert not np.array_equal(measure_metric(model.second, model, [IDS], seed=4), free)
    assert all(p.grad is None for p in model.parameters())
    assert not model.second._forward_hooks and not model.head._forward_pre_hooks


def metric_of(model, batch, name="token_embedding", output=Subject.output):
    """As an experiment measures it."""
    run = Experiment.__new__(Experiment)
    run.model, run.settings, run.batches = model, Settings(), [batch]
    run.subject = types.SimpleNamespace(device=torch.device("cpu"),
                                        output=lambda *given: output(None, *given))
    return run._metric(name)


def test_positions_without_a_target_do_not_count():
    """Later words do not change earlier states of a GPT: what stands there must not matter."""
    torch.manual_seed(0)
    model = TinyGPT(GPTConfig(11, 8, 1, 2, 4)).eval()
    targets = np.array([[1, 2, IGNORE, IGNORE], [4, 5, IGNORE, IGNORE]])
    inputs = [np.array([[3, 1, *end], [2, 4, *end]]) for end in ((0, 0), (7, 9))]
    one, other = (metric_of(model, Batch((ids,), targets)) for ids in inputs)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)  # float32
    everywhere = metric_of(model, Batch((inputs[0],), np.abs(targets)))
    assert not np.allclose(everywhere, one, rtol=1e-2)


KINDS = {"GPT2LMHeadModel": "lm", "BertForMaskedLM": "mlm", "T5ForConditionalGeneration": None,
         "BartForConditionalGeneration": None, "MarianMTModel": None}


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_and_frozen_teachers_have_nearly_the_metric_of_the_whole(kind):
    from see_min.experiments.hf_models import Pretrained, PretrainedTranslator

    ids, found = torch.arange(14).reshape(2, 7) + 5, []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = transformer(kind).to(dtype).requires_grad_(dtype is torch.float32)
        if KINDS[kind]:
            model = Pretrained(model, tokenizer(), KINDS[kind], 8)
        else:
            words = tokenizer(shape="$A [SEP]", eos_token="[SEP]")
            model = PretrainedTranslator(model, words, block_size=8)
        inputs = (ids,) * len(model.task.embeddings)
        found.append(metric_of(model, Batch(inputs, ids), model.task.embeddings[0]))
    for half in found[1:]:
        np.testing.assert_allclose(half, found[0], atol=0.1 * np.abs(found[0]).max())
    assert found[0].shape == (D, D) and found[0].trace() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sentences_have_a_metric_without_a_head_and_the_same_every_time(dtype):
    from see_min.experiments.hf_models import Pretrained

    model = Pretrained(transformer("BertModel").to(dtype), tokenizer(), "encoder", 16)
    texts = [" ".join(WORDS[i : i + 3 + i % 5]) for i in range(30)]
    found = model.sentence_metric(texts)
    assert np.isfinite(found).all() and found.trace() == pytest.approx(1)
    assert np.array_equal(model.sentence_metric(texts), found)
    assert np.linalg.eigvalsh(found).min() > -1e-9
