"""Starts the gateway: `python -m gateway`."""

from chassis.runtime.process import run_service
from gateway.app import gateway_app
from gateway.settings import GatewaySettings


def main() -> None:
    """Run the gateway until it receives a signal to stop."""
    run_service("gateway", GatewaySettings, gateway_app)


if __name__ == "__main__":
    main()
