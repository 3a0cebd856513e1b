# syntax=docker/dockerfile:1
# The operator, and the job that upgrades the CRDs: docker build -f images/operator.Dockerfile .
# To pin the base by content: --build-arg PYTHON=3.11.14-slim-bookworm@sha256:…
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY . .
RUN images/install.sh requirements/image-operator.txt /opt/pointsman

FROM python:${PYTHON}
COPY --from=build /opt/pointsman /opt/pointsman
ENV PATH=/opt/pointsman/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
RUN pointsman operator crds >/dev/null
WORKDIR /tmp
USER 10001:10001
EXPOSE 8081
ENTRYPOINT ["pointsman"]
CMD ["operator"]
