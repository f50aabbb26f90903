"""A tiny model of every causal-LM architecture in the installed transformers that its config alone can build."""

import inspect
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

# Sizes by the names that configs give them.
SIZES: dict[int | bool, str] = {
    64: "hidden_size d_model n_embd embed_dim model_dim emb_dim embedding_size attention_hidden_size lru_width width "
    "dim hidden_dim",
    128: "intermediate_size ffn_dim n_inner d_ff decoder_ffn_dim encoder_ffn_dim dff ffn_hidden_size d_inner "
    "intermediate_size_mlp dense_intermediate_size mamba_d_ssm",
    32: "q_lora_rank kv_lora_rank moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
    "moe_shared_expert_intermediate_size mamba_d_head mamba_head_dim mamba_chunk_size",
    16: "head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim linear_key_head_dim linear_value_head_dim kv_channels "
    "attention_head_dim index_head_dim rotary_dim",
    8: "state_size mamba_d_state d_state ssm_state_size sliding_window",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads num_experts "
    "linear_num_value_heads mamba_n_heads mamba_num_heads num_local_experts n_routed_experts moe_num_experts",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_key_value_heads "
    "linear_num_key_heads n_groups mamba_n_groups num_experts_per_tok moe_topk moe_k top_k_experts "
    "num_experts_per_token moe_top_k eos_token_id full_attention_interval attn_layer_period layer_group_size",
    1: "n_group topk_group first_k_dense_replace n_shared_experts num_shared_experts bos_token_id attn_layer_offset",
    0: "pad_token_id",
    320: "vocab_size vocab_size_per_layer_input",
    512: "max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length context_length",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()} | {"is_decoder": True}
# What the sizes above leave inconsistent, tried in this order after the sizes alone.
ATTEMPTS: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"layer_types": ["linear_attention", "full_attention"]},
    {"layer_types": ["linear_attention", "full_attention"], "num_key_value_heads": 4},
    {"layer_types": ["mamba", "attention"]},
    {"layer_types": ["conv", "full_attention"]},
    {"num_hidden_layers": 3},
    {"num_hidden_layers": 4},
    {"num_experts_per_tok": 1},
    {"attn_layer_indices": [1]},
    {"attention_types": [[["global", "local"], 1]]},
    {"num_heads": 8},
    {"qk_dim_factor": 1.0, "v_dim_factor": 1.0},
)
# More is not tiny: a vision or audio tower that the sizes do not reach.
MOST_PARAMETERS = 20_000_000
# Built at full size (gigabytes) before they could be found too large, or in need of an image library.
TOO_LARGE = frozenset({"blt", "fuyu", "got_ocr2", "moss_transcribe_diarize", "phi4_multimodal", "gemma3", "git"})

# What configs and models say to sizes that do not fit together.
REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)

ARCHITECTURES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


class NotBuildableError(Exception):
    """The sizes above do not make a working model of this architecture."""


def build(architecture: str) -> Any:
    """A model with weights at a scale where every token depends on those before it.

    Raises:
        NotBuildableError: no attempt gives a model that answers a row of 300 tokens.
    """
    if architecture in TOO_LARGE:
        raise NotBuildableError("needs gigabytes or an image library")
    reasons = []
    for attempt in ATTEMPTS:
        try:
            model = _build(architecture, attempt)
            with torch.no_grad():
                model(input_ids=torch.arange(300)[None] % 256)
        except REFUSALS as error:
            reasons.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
            continue
        return model
    raise NotBuildableError(reasons[0])


def _build(architecture: str, attempt: dict[str, Any]) -> Any:
    config_class, model_class = CONFIG_MAPPING[architecture], MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[architecture]
    sizes = _sizes(config_class, attempt)
    for name, part in getattr(config_class, "sub_configs", {}).items():
        if name.startswith(("text", "decoder")) and part is not transformers.AutoConfig:
            sizes[name] = _sizes(part, attempt)
    torch.manual_seed(0)
    with torch.device("meta"):
        name = model_class if isinstance(model_class, str) else model_class[0]
        parameters = sum(p.numel() for p in getattr(transformers, name)(config_class(**sizes)).parameters())
    if parameters > MOST_PARAMETERS:
        raise NotBuildableError(f"{parameters} parameters at the smallest")
    model = getattr(transformers, name)(config_class(**sizes)).eval()
    if architecture == "xmod":
        model.set_default_language("en_XX")
    _spread_weights(model)
    return model


def _sizes(config_class: Any, attempt: dict[str, Any]) -> dict[str, Any]:
    known: set[str] = set(getattr(config_class, "attribute_map", {}))
    for base in config_class.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
        known |= set(inspect.signature(base.__init__).parameters) if "__init__" in vars(base) else set()
    return {name: size for name, size in (SMALL | attempt).items() if name in known}


def _spread_weights(model: Any) -> None:
    """Initial weights are so small that a model hardly looks at its input; these make logits of order one."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, torch.nn.Embedding):
                parameter.data.normal_(0, 1, generator=generator)
            elif isinstance(module, (torch.nn.Linear, Conv1D)) and parameter.ndim == 2:
                inputs = parameter.shape[0 if isinstance(module, Conv1D) else 1]
                parameter.data.normal_(0, inputs**-0.5, generator=generator)
