"""Rows of the table of commands about base layers (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import DRY_RUN, OPERATE, REQUEST_ID, WATCH, YES, Argument, Command, Option

_NAME = Argument("name", "an image")
_CALLED = Option(("--name",), "what manifests will call it", metavar="NAME")
_REPLACE = Option(
    ("--replace",), "let the name mean this image from now on", kind="flag", default=False
)

IMAGE_COMMANDS: tuple[Command, ...] = (
    Command(
        ("images",),
        OPERATE,
        "list images: what components can have as their base",
        "image:images",
        (("images", "names, sizes, who uses them"), ("images -o json", "with their layers")),
        options=(WATCH,),
    ),
    Command(
        ("images", "show"),
        OPERATE,
        "describe an image",
        "image:show",
        (
            ("images show debian-12", "layers, command, variables"),
            ("images show debian-12 -o json", "as JSON"),
        ),
        arguments=(_NAME,),
    ),
    Command(
        ("images", "import"),
        OPERATE,
        "make an image known: an OCI layout (directory or tar) or a docker archive",
        "image:import_",
        (
            ("images import debian.tar --name debian", "what skopeo or docker save wrote"),
            ("images import layout/ --image stable", "one of several in a directory"),
        ),
        arguments=(Argument("path", "a directory or a file"),),
        options=(
            _CALLED,
            Option(("--image",), "which of several", default="", metavar="REFERENCE"),
            _REPLACE,
            REQUEST_ID,
            DRY_RUN,
        ),
        more="Layers that the cluster has are not sent again.",
    ),
    Command(
        ("images", "build"),
        OPERATE,
        "build a minimal Debian from its packages, and make it known",
        "image_build:build",
        (
            ("images build debian-12", "with the packages of this machine's mirror"),
            ("images build debian-12 --include python3 --name python", "and some more"),
        ),
        arguments=(Argument("recipe", "debian-12 or debian-13"),),
        options=(
            _CALLED,
            Option(("--include",), "further packages, by commas", many=True, metavar="PACKAGES"),
            _REPLACE,
            REQUEST_ID,
            DRY_RUN,
        ),
        more="Needs mmdebstrap on this machine; works as root and without.",
    ),
    Command(
        ("images", "export"),
        OPERATE,
        "write a type, with its base, as an OCI image",
        "image_export:export",
        (
            ("images export hello --to hello.tar", "for docker load, podman load, skopeo"),
            ("images export hello@1.2 --to layout/", "as a directory"),
        ),
        arguments=(Argument("type_", "a type", names="type"),),
        options=(
            Option(("--to",), "a file that ends with .tar, or a new directory", metavar="PATH"),
            DRY_RUN,
        ),
    ),
    Command(
        ("images", "verify"),
        OPERATE,
        "read an image again on every node that has it; damaged layers are fetched anew",
        "image:verify",
        (
            ("images verify debian-12", "what each node found"),
            ("images verify debian-12 -o json", "as JSON"),
        ),
        arguments=(_NAME,),
        more="Exits with 1 when something was damaged, or a node did not answer.",
    ),
    Command(
        ("images", "remove"),
        OPERATE,
        "forget an image that no type has as its base",
        "image:remove",
        (
            ("images remove debian-12", "asks first"),
            ("images remove debian-12 --yes", "what runs on it goes on"),
        ),
        arguments=(_NAME,),
        options=(YES, REQUEST_ID, DRY_RUN),
    ),
)
