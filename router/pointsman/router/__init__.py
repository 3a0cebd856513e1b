"""The gateway: data plane, pipeline, predictor, reasoning families, wire formats and the admin API."""
