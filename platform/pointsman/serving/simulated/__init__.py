"""The simulated engine: an OpenAI-compatible server that stands in for one SGLang replica, without a model.

For trials and load tests, never for answers: it says so in every text it sends, in `system_fingerprint` and in
the header `server`. It speaks HTTP as SGLang 0.5.23 does (chunk shapes, usage, finish reasons, errors, metric
names), which `tests/behaviour/engine_behaviour.py` holds it to. `docs/simulated-engine.md` lists where it differs.

May not import torch, ray or sglang: it must start within a second and a half on a machine that has none of them.
"""
