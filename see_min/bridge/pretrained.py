"""Compressed models in folders of transformers: `save_pretrained`, `from_pretrained`, quant_method.

    config.json         quantization_config: which embeddings are packed, with shapes and bits
    model.safetensors   for each the arrays of `storage.encodings.pack`; the other weights as they
                        are, or in float16, or as int8 with a step per row

Loading puts a `Packed` where an embedding was; transformers reads the tensors into it by name, and
it becomes a SememeEmbedding. Without `import see_min.bridge` transformers knows no such method and
would go on with random rows: the tensor of another shape under the name of the weight stops it.
"""

import re
from dataclasses import replace
from types import MethodType

import numpy as np
import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel, load_state_dict
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.bridge.packing import pack_layer, unpack_layer
from see_min.bridge.swap import find_embeddings, replace_embedding, to_dense
from see_min.encoding import with_private_rows
from see_min.errors import InputError, require
from see_min.storage.encodings import READ_ERRORS, quantize

METHOD, HINT = "see_min", "import see_min.bridge before loading"
WEIGHTS = {None: (), "float16": range(9), "int8": (2,)}  # numbers of axes of the weights kept so
STEP = "_step"  # of an int8 weight, a number per row


@register_quantization_config(METHOD)
class SeeMinConfig(QuantizationConfigMixin):
    """{name of an embedding: what its tensors do not say}, and how other weights are kept."""

    def __init__(self, embeddings=None, weights=None, **_):
        if weights not in WEIGHTS:
            raise InputError(f"weights: expected float16 or int8, got {weights!r}")
        self.quant_method, self.weights, self.embeddings = METHOD, weights, embeddings or {}


@register_quantizer(METHOD)
class SeeMinQuantizer(HfQuantizer):
    """What transformers calls while it loads and saves."""

    requires_calibration = True  # folders alone: `compress` needs words
    is_trainable = True

    def is_serializable(self):
        return True

    def get_state_dict_and_metadata(self, model):
        """The state as a file holds it; the config that says so is set, too."""
        if getattr(model, "_hf_peft_config_loaded", False):  # adapters alone are saved
            return None, {}
        state, layers = model.state_dict(), {}
        for key, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, SememeEmbedding):
                layers.setdefault(module, key)  # the first of its names
                for name in module.state_dict():
                    del state[f"{key}.{name}"]
        config, once = SeeMinConfig(weights=self.quantization_config.weights), {}
        for key in self._other_weights(model, state):
            state |= _fewer_bits(key, state[key], config.weights, once)
        for module, key in layers.items():
            tensors, entry = pack_layer(module)
            tied = [name for name, part in model.named_modules(remove_duplicate=False)
                    if module is part or isinstance(part, TiedHead) and part.embedding is module]
            config.embeddings[key] = entry | {"tied": tied}
            state |= {f"{key}.{name}": tensor for name, tensor in tensors.items()}
        model.config.quantization_config = self.quantization_config = config
        return state | {HINT: torch.zeros(1, dtype=torch.uint8)}, {}

    def _other_weights(self, model, state):
        """Names of parameters in a state that `weights` says how to keep: for int8 matrices."""
        axes = WEIGHTS[self.quantization_config.weights]
        own = tuple(f"{key}." for key, module in model.named_modules(remove_duplicate=False)
                    if isinstance(module, SememeEmbedding))
        names = (name for name, _ in model.named_parameters(remove_duplicate=False))
        return [name for name in names if name in state and state[name].ndim in axes
                and not name.startswith(own)]

    @torch.no_grad()
    def round_weights(self, model):
        """Round other weights in place to the numbers that a file holds."""
        state = model.state_dict()
        for key in self._other_weights(model, state):
            kept = _fewer_bits(key, state[key], self.quantization_config.weights, {})
            state[key].copy_(_many_bits(*kept.values()))

    def _process_model_before_weight_loading(self, model, checkpoint_files=None, **_):
        if checkpoint_files is None:
            raise InputError("state_dict: expected a folder that save_pretrained wrote, got none")
        tensors = {}  # {name: a tensor of that shape without numbers}
        for path in checkpoint_files:
            tensors |= load_state_dict(path, map_location="meta")
        tensors.pop(HINT, None)
        ties = dict(model.all_tied_weights_keys)  # in here tie_weights does nothing
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        for name, entry in self.quantization_config.embeddings.items():  # config may have lost them
            for other in set(entry.get("tied", ())) - {name}:
                pair = [_name_here(model, f"{key}.weight", parameters) for key in (other, name)]
                if None not in pair:
                    ties.setdefault(*pair)
        for target, source in ties.items():
            module, _, name = target.rpartition(".")
            setattr(model.get_submodule(module), name, model.get_parameter_or_buffer(source))
        for name, entry in self.quantization_config.embeddings.items():
            own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items()
                   if key.startswith(f"{name}.")}
            here = {key: tied for tied in find_embeddings(model) for key in tied.shared}
            tied = here.get(_name_here(model, name, here))
            if tied is None or "weight" not in own:
                rule = "expected the embedding that config.json names, in file and model"
                raise InputError(f"{name}: {rule}, got none")
            for key in tied.shared:  # a tensor must not be looked for under two names
                first = key == tied.name
                model.set_submodule(key, Packed(own, entry, tied) if first else nn.Module())
            for key, head in tied.heads.items():
                bare = nn.Module()
                bare.register_parameter("bias", head.bias)
                bare.weight = torch.zeros(tied.shape[0], 1, device="cpu")  # models ask for it
                model.set_submodule(key, bare)
        for key, step in tensors.items():
            name = _name_here(model, key.removesuffix(STEP), parameters)
            if key.endswith(STEP) and name is not None:
                module, _, name = name.rpartition(".")
                model.get_submodule(module).register_buffer(name + STEP, step)
        _drop_ties(model)
        model._keys_to_ignore_on_load_unexpected.add(re.escape(HINT))

    def _process_model_after_weight_loading(self, model, **_):
        model.is_quantized = False  # it trains, moves and changes its type as any other
        _many_bits_again(model)
        for packed in [module for module in model.modules() if isinstance(module, Packed)]:
            heads = {key: model.get_submodule(key) for key in packed.tied.heads}
            names = replace_embedding(model, replace(packed.tied, heads=heads), packed.layer())
            for key, old in zip((names[0], *heads), (packed, *heads.values())):
                if hasattr(old, "_hf_hook"):  # its part of the model has a device of its own
                    hooks, hook = require("accelerate.hooks"), old._hf_hook
                    if old is packed:  # buffers stay in memory, and so do its parameters
                        device = getattr(hook, "execution_device", packed.weight.device)
                        hook = hooks.AlignDevicesHook(device)
                    hooks.add_hook_to_module(model.get_submodule(key), hook)
        attach(model, self.quantization_config.weights)

    def _dequantize(self, model, dtype=None):
        return to_dense(model)

    def detach(self, model):
        """Undo `attach`."""
        for module in model.modules():
            for name in ("_tied_weights_keys", *RESIZE):
                vars(module).pop(name, None)
        self.remove_quantization_config(model)
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


class Packed(nn.Module):
    """Where an embedding was: tensors of a file as buffers, which a load fills."""

    def __init__(self, tensors, entry, tied):
        super().__init__()
        self.entry, self.tied = entry, tied
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def layer(self):
        """The SememeEmbedding; InputError for tensors that are not those of one."""
        dense, tensors = self.tied.module, dict(self.named_buffers())
        try:
            new = unpack_layer(tensors, self.entry, dense.weight.dtype, dense.padding_idx)
            if (found := (new.num_embeddings, new.embedding_dim)) != self.tied.shape:
                raise ValueError(f"rows {found}, not {self.tied.shape}")
        except READ_ERRORS as error:
            rule, reason = "expected an embedding of see_min", f"{type(error).__name__}: {error}"
            raise InputError(f"{self.tied.name}: {rule}, got {reason}") from None
        return new.to(self.weight.device).eval()


def _name_here(model, name, known):
    """A name of a saved model in one with or without a head around it; None if there is none."""
    prefix = f"{model.base_model_prefix}."
    return next((key for key in (name, prefix + name, name.removeprefix(prefix)) if key in known),
                None)


def _fewer_bits(key, tensor, weights, once):
    """{name in a file: tensor} of a weight; of one memory: one tensor, so that ties are seen."""
    if tensor.is_meta:
        raise InputError(f"{key}: expected weights in memory, got offloaded ones")
    place = tensor.data_ptr(), tensor.shape
    if place not in once:
        if weights == "float16":
            once[place] = (tensor.half(),)
        else:
            q, s = quantize(tensor.float().cpu().numpy(), 1, 8)  # (rows, columns), (rows, 1)
            once[place] = torch.from_numpy(q.astype(np.int8)), torch.from_numpy(s)
    return dict(zip((key, key + STEP), once[place]))


def _many_bits(kept, step=None):
    """The numbers that `_fewer_bits` keeps."""
    return kept if step is None else kept * step


def _many_bits_again(model):
    """Replace int8 weights of a loaded model by the numbers they stand for."""
    whole = {}
    for module in model.modules():
        for name, step in list(module.named_buffers(recurse=False)):
            if name.endswith(STEP):
                q = module.get_parameter(name.removesuffix(STEP))
                if q.is_meta:
                    raise InputError("device_map: expected memory for int8 weights, got offloading")
                whole[q] = nn.Parameter(_many_bits(q.data, step).to(model.dtype))
                delattr(module, name)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter in whole:
                setattr(module, name, whole[parameter])


def attach(model, weights=None):
    """Teach models of transformers in a model to save, load and grow compressed embeddings."""
    for module in model.modules():
        own = (part for part in module.modules() if isinstance(part, SememeEmbedding))
        if not isinstance(module, PreTrainedModel) or next(own, None) is None:
            continue
        if not isinstance(getattr(module, "hf_quantizer", None), SeeMinQuantizer):
            module.hf_quantizer = SeeMinQuantizer(SeeMinConfig())
        if weights:
            module.hf_quantizer.quantization_config = SeeMinConfig(weights=weights)
        if "_get_resized_embeddings" not in vars(module):
            module.register_load_state_dict_pre_hook(_unpack_state)
            vars(module).update({name: MethodType(RESIZE[name], module) for name in RESIZE})
    _drop_ties(model)


def _drop_ties(model):
    """Forget ties of weights that are no more: a TiedHead holds them better."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module._tied_weights_keys:
            own = (module.named_parameters(remove_duplicate=False), module.named_buffers())
            packed = [key for key, part in module.named_modules() if isinstance(part, Packed)]
            names = [name for pairs in own for name, _ in pairs
                     if name.rpartition(".")[0] not in packed]
            module._tied_weights_keys = {
                target: source for target, source in module._tied_weights_keys.items()
                if all(any(re.match(key, name) for name in names) for key in (target, source))}
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.all_tied_weights_keys = module.get_expanded_tied_weights_keys(all_submodels=True)


def _unpack_state(model, state, prefix, *_):
    """Before load_state_dict: what a file holds becomes what the model has. Trainer reads so."""
    state.pop(HINT, None)
    for key in [key for key in state if key.endswith(STEP)]:
        whole = key.removesuffix(STEP)
        if whole in state and state[whole].dtype == torch.int8:
            state[whole] = _many_bits(state[whole], state.pop(key))
    for name, layer in model.named_modules():
        start = f"{prefix}{name}."
        if isinstance(layer, SememeEmbedding) and f"{start}weight" in state:
            own = {key.removeprefix(start): state.pop(key) for key in list(state)
                   if key.startswith(start)}
            dtype, pad = layer.table_0.dtype, layer.padding_idx
            new = unpack_layer(own, pack_layer(layer)[1], dtype, pad)
            state |= {start + key: tensor for key, tensor in new.state_dict().items()}


def _get_resized_embeddings(model, old, new_num_tokens=None, pad_to_multiple_of=None, *more):
    """New rows are private vectors, each the mean of the old rows; a compressed layer only grows.
    """
    if not isinstance(old, SememeEmbedding):
        call = type(model)._get_resized_embeddings
        return call(model, old, new_num_tokens, pad_to_multiple_of, *more)
    V, step = old.num_embeddings, pad_to_multiple_of or 1
    N = -(-(new_num_tokens or V) // step) * step - V
    if N < 0:
        raise InputError(f"new_num_tokens: expected at least {V}, got {V + N}: use to_dense")
    if N == 0:
        return old
    mean = old.weight.detach().float().mean(0, keepdim=True).cpu().numpy()  # (1, D)
    return old.rebuilt(with_private_rows(old.to_encoding(), mean.repeat(N, axis=0)))


def _get_resized_lm_head(model, old, new_num_tokens=None, *more, **options):
    """A tied head has the rows of its embedding; its bias grows."""
    if not isinstance(old, TiedHead):
        call = type(model)._get_resized_lm_head
        return call(model, old, new_num_tokens, *more, **options)
    if old.bias is None or new_num_tokens in (None, len(old.bias)):
        return old
    rest = old.bias.detach().mean().expand(new_num_tokens - len(old.bias))  # (N,)
    return TiedHead(*old.tie, nn.Parameter(torch.cat([old.bias.detach(), rest])))  # (V + N,)


# under the names of methods of the class, or a model could not be pickled
RESIZE = {one.__name__: one for one in (_get_resized_embeddings, _get_resized_lm_head)}
