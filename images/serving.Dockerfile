# syntax=docker/dockerfile:1
# SGLang replicas on Ray Serve, heads and workers of a RayService: docker build -f images/serving.Dockerfile .
# The base is SGLang's own image for CUDA: engine, kernels and drivers' libraries that fit each other. To pin it by
# content: --build-arg SGLANG=v0.5.23-runtime@sha256:…
ARG SGLANG=v0.5.23-runtime

FROM lmsysorg/sglang:${SGLANG} AS build
WORKDIR /src
COPY . .
# What SGLang does not bring: Ray Serve and Pointsman's own few packages. --system-site-packages: the rest is the base's.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/requirements/base.txt
RUN python3 -m venv --system-site-packages /opt/pointsman \
    && /opt/pointsman/bin/python -m pip install --no-deps --no-compile -r requirements/image-serving.txt \
    && /opt/pointsman/bin/python -m pip install --no-deps --no-compile .

FROM lmsysorg/sglang:${SGLANG}
COPY --from=build /opt/pointsman /opt/pointsman
# KubeRay's probes call bash and wget in the container; HOME holds the caches of compiled kernels.
ENV PATH=/opt/pointsman/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1
RUN command -v bash wget ray pointsman \
    && python -c "import sglang; from pointsman.serving.pool_application import build_pool"
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000 8265 10001 6379
ENTRYPOINT []
CMD ["bash"]
