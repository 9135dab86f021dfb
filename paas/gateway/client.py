"""What others may use of the gateway: its bundle's source folder (io)."""

from paas.gateway.component.bundle import NAME, build

__all__ = ["NAME", "build"]
