"""The engines behind the router: Ray Serve applications of SGLang, the local model, and the simulated engine."""
