"""The switches of engines that the router alone may set, and the refusal of fields that nobody knows.

Stands apart from the wire formats because engines are told by the same names whatever the client speaks.
"""

from __future__ import annotations

from pointsman.contracts.errors import InvalidRequest

_PRIVATE = frozenset(
    {
        "stop_token_ids",  # SGLang's scheduler dies of an id outside the vocabulary, which only the engine knows
        "rid",
        "input_ids",
        "input_embeds",
        "custom_logit_processor",
        "custom_params",
        "lora_path",
        "priority",
        "extra_key",
        "cache_salt",
        "separate_reasoning",
        "stream_reasoning",
        "skip_special_tokens",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "documents",
        "kv_transfer_params",
    }
)
_PRIVATE_PREFIXES = ("bootstrap_", "session_", "return_", "routed_", "data_parallel_")
_PRIVATE_SUFFIXES = ("_dp_rank",)


def is_private(name: str) -> bool:
    """Whether `name` is a switch of an engine that the router alone may set."""
    return name in _PRIVATE or name.startswith(_PRIVATE_PREFIXES) or name.endswith(_PRIVATE_SUFFIXES)


def unknown(name: str) -> InvalidRequest:
    """The refusal of a field called `name`, which says so where it is private."""
    shown = name if len(name) <= 64 and name.isprintable() else name[:64].encode("ascii", "replace").decode() + "…"
    if is_private(name):
        return InvalidRequest(
            f"'{shown}' is a private field of the engine; clients may not set it.",
            param=shown,
            code="private_parameter",
        )
    return InvalidRequest(f"'{shown}' is not known.", param=shown, code="unknown_parameter")
