"""Rows of the table of commands about bundles and keys (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import DRY_RUN, OPERATE, REQUEST_ID, WATCH, YES, Argument, Command, Option

BUNDLE_COMMANDS: tuple[Command, ...] = (
    Command(
        ("bundles",),
        OPERATE,
        "list stored bundles",
        "bundle:bundles",
        (("bundles", "digests, sizes, who signed them"), ("bundles -o name", "digests only")),
        options=(WATCH,),
    ),
    Command(
        ("bundles", "remove"),
        OPERATE,
        "forget a bundle that no type refers to",
        "bundle:remove",
        (
            ("bundles remove sha256:9f2c…", "by its whole digest"),
            ("bundles remove sha256:9f2c… --dry-run", "only say what would be done"),
        ),
        arguments=(Argument("digest", "sha256:… as listed"),),
        options=(YES, DRY_RUN, REQUEST_ID),
    ),
    Command(
        ("bundles", "trust"),
        OPERATE,
        "trust a publisher: bundles signed with its key may run here",
        "bundle:trust",
        (
            ("bundles trust ana.pub", "a public key file in minisign's format"),
            ("bundles trust ana.pub --name ana", "with a name for people"),
        ),
        arguments=(Argument("file", "a public key"),),
        options=(Option(("--name",), "whose it is", default="", metavar="NAME"), REQUEST_ID),
    ),
    Command(
        ("keys",),
        OPERATE,
        "show the key that your bundles are signed with",
        "bundle:keys",
        (("keys", "its id and file"), ("keys -o name", "only the public key")),
    ),
)
