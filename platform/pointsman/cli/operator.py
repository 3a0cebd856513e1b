"""`pointsman operator`: keeps the objects of a Kubernetes cluster and the platform alike."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import logs, standalone
from pointsman.contracts.names import Env

app = typer.Typer(help="Run the Kubernetes operator, or print what it needs.", invoke_without_command=True)


@app.callback()
def operator(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar=Env.URL, help="Where the router is, for its admin API.", show_default=False)
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="A namespace to watch; may be given several times. Default: all.", show_default=False),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Kubeconfig file. Default: the pod's own credentials, else your own.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(envvar=Env.SERVING_IMAGE, help="Image of serving pods, where a pool names none."),
    ] = None,
    ray_version: Annotated[
        str | None, typer.Option(envvar=Env.RAY_VERSION, help="Version of Ray in that image.", show_default=False)
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            envvar=Env.RELEASE,
            help="Release whose routers reach replicas. Default: none, and pools get no NetworkPolicies.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of /healthz and /metrics.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Port of /healthz and /metrics.", min=1, max=65535)] = 8081,
    lease_seconds: Annotated[
        float, typer.Option(help="Seconds after which another operator takes over from one that is gone.", min=1)
    ] = 15.0,
) -> None:
    """
    Run the operator, until SIGTERM: ModelPools, ModePolicies and Tenants of the cluster go to the platform.

    The admin key comes from POINTSMAN_ADMIN_KEY, what replicas need from POINTSMAN_REPLICA_SECRET and
    POINTSMAN_REDIS_URL, and the operator's own name and namespace from POINTSMAN_POD_NAME
    and POINTSMAN_POD_NAMESPACE.
    """
    if context.invoked_subcommand is not None:
        return
    if not url:
        standalone.refuse(f"Where is the router? Set {Env.URL} or --url.")
    key = os.environ.get(Env.ADMIN_KEY)
    if not key:
        standalone.refuse(f"{Env.ADMIN_KEY} is not set: the operator needs an owner's admin key.")
    logs.to_stderr()

    # Imported here: the sub-commands need neither kopf nor aiohttp.
    from pointsman.operators import process
    from pointsman.operators.settings import DEFAULT_RAY_VERSION, Settings

    settings = Settings(
        admin_url=url,
        admin_key=key,
        redis_url=os.environ.get(Env.REDIS_URL),
        replica_secret=os.environ.get(Env.REPLICA_SECRET),
        namespaces=tuple(namespace or ()),
        kubeconfig=kubeconfig,
        identity=os.environ.get(Env.POD_NAME) or f"{socket.gethostname()}-{os.getpid()}",
        namespace=os.environ.get(Env.POD_NAMESPACE) or "default",
        release=release,
        image=image,
        ray_version=ray_version or DEFAULT_RAY_VERSION,
        host=host,
        port=port,
        lease_seconds=lease_seconds,
    )
    raise typer.Exit(process.run(settings))


@app.command()
def crds(
    write: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a file for each to FOLDER, instead of printing them."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply them to the cluster and wait until it takes objects of them.")
    ] = False,
) -> None:
    """
    Print the definitions of ModelPool, ModePolicy and Tenant (CRDs) as YAML.

    `--apply` finds the cluster as kubectl does, or the one that it runs in. Exit code 2: they could not be applied.
    """
    from pointsman.operators.crds import definitions, written

    if write is not None and apply:
        standalone.refuse("Give --write or --apply, one of them.")
    if apply:
        _apply(definitions())
        return
    for definition in definitions():
        if write is None:
            typer.echo(f"---\n{written(definition)}", nl=False)
        else:
            file = write / f"{definition['metadata']['name']}.yaml"
            file.write_text(written(definition), encoding="utf-8")
            typer.echo(file)


def _apply(found: list[dict[str, object]]) -> None:
    import asyncio

    from pointsman.operators.cluster import ClusterError
    from pointsman.operators.crds.applying import NotEstablished, apply

    try:
        for name in asyncio.run(apply(found)):
            typer.echo(f"{name} is applied and established")
    except (ClusterError, NotEstablished) as error:
        standalone.refuse(str(error))
