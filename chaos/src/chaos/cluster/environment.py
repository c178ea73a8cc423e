"""What the services need besides the brokers: the database, the providers, the catalogue."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.cluster.scale import RUN_LIMIT_S
from contracts.catalogue import default_catalogue_path
from segue_cli.local.postgres import LocalPostgres, postgres
from segue_cli.local.process import child, ready_with
from segue_cli.stack.components import log_to
from segue_cli.stack.run import LOOPBACK_HOSTS, SANDBOX_KEYS


async def database_on(folder: Path, stack: AsyncExitStack, disk: Path | None = None) -> LocalPostgres:
    """An empty PostgreSQL that runs as long as the stack is open, with its data on that disk, if one is given."""
    take, close = log_to(folder / "logs" / "postgres.log")
    stack.callback(close)
    return await stack.enter_async_context(postgres(disk and disk / "postgres", on_line=take))


async def providers_on(folder: Path, stack: AsyncExitStack) -> tuple[dict[str, str], str, Path]:
    """The settings for the sandbox as provider, the URL of its control API, and the file of its bills."""
    take, close = log_to(folder / "logs" / "sandbox.log")
    stack.callback(close)
    argv = [sys.executable, "-m", "sandbox", "--dir", str(folder / "sandbox")]
    running = await stack.enter_async_context(
        child(argv, name="sandbox", on_line=take, ready=ready_with("control_url"))
    )
    at = running.ready
    env = {
        **SANDBOX_KEYS,
        "FAL_RUN_HOST": at["fal_run_host"],
        "FAL_QUEUE_RUN_HOST": at["fal_host"],
        "FAL_API_URL": at["fal_api_url"],
        "FAL_JWKS_URL": at["fal_jwks_url"],
        "SSL_CERT_FILE": at["ca_file"],
        "REPLICATE_BASE_URL": at["replicate_base_url"],
        "SEGUE_EGRESS_ALLOW": LOOPBACK_HOSTS,
    }
    return env, str(at["control_url"]), Path(at["bills"])


def catalogue_in(folder: Path) -> Path:
    """The repository's catalogue, with a short limit on the duration of any run."""
    lines = default_catalogue_path().read_text().splitlines(keepends=True)
    path = folder / "models.yaml"
    limit = f"longest_run_s: {RUN_LIMIT_S}\n"
    path.write_text(
        "".join(f"{' ' * 8}{limit}" if line.startswith(" " * 8 + "longest_run_s:") else line for line in lines)
    )
    return path
