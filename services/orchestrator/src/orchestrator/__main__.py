"""Starts the orchestrator."""

from __future__ import annotations

from chassis.runtime.process import run_service
from orchestrator.app import app
from orchestrator.settings import OrchestratorSettings


def main() -> None:
    """Run the service until it is stopped, and exit the process."""
    run_service("orchestrator", OrchestratorSettings, app)


if __name__ == "__main__":
    main()
