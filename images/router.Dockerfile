# syntax=docker/dockerfile:1
# Routers, admin process, ledger writer, console, simulated engine: docker build -f images/router.Dockerfile .
# To pin the base by content: --build-arg PYTHON=3.11.14-slim-bookworm@sha256:… (and BUILDER likewise).
ARG BUILDER=3.11.14-bookworm
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${BUILDER} AS build
WORKDIR /src
# The builder has a C compiler, for the predictor's kernel; the image has none.
COPY . .
RUN images/install.sh requirements/image-router.txt /opt/pointsman

FROM python:${PYTHON}
COPY --from=build /opt/pointsman /opt/pointsman
ENV PATH=/opt/pointsman/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
RUN pointsman --help >/dev/null && mkdir -p /var/lib/pointsman && chown 10001:10001 /var/lib/pointsman
WORKDIR /var/lib/pointsman
USER 10001:10001
EXPOSE 8080 8081
ENTRYPOINT ["pointsman"]
CMD ["--help"]
