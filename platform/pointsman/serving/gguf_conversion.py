"""Turn one GGUF file into a folder that SGLang loads: `python -m pointsman.serving.gguf_conversion FILE FOLDER`.

A program of its own because it loads torch and transformers: see `local_model.py`, its only caller.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """
    Write weights (half precision), configuration, tokenizer and chat template of `gguf` into `folder`.

    Half precision loses nothing that matters: the weights in the file have four bits.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.to(torch.float16).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
