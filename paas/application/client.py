"""What others use of applications: reading their files, and names of what belongs to them."""

from paas.application.limits import FILE_BYTES_MAX
from paas.application.reading import FILE_NAME, parse
from paas.application.specification import Role, Specification

__all__ = ["FILE_BYTES_MAX", "FILE_NAME", "Role", "Specification", "parse"]
