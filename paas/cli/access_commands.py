"""The commands about access from outside: rows of the one table (commands.py)."""

from __future__ import annotations

from paas.cli.rows import OPERATE, Argument, Command, Option

_EXPIRES = Option(("--expires",), "for how long it is good", kind="duration", metavar="TIME")

ACCESS_COMMANDS: tuple[Command, ...] = (
    Command(
        ("token", "create"),
        OPERATE,
        "make a token for a program outside",
        "access:create",
        (
            ("token create --role reader --note graphs", "one that may look, for 30 days"),
            ("token create --expires 1h --save-authority ca.pem", "and what its user must trust"),
        ),
        options=(
            Option(
                ("--role",), "what it may do", choices=("operator", "reader"), default="operator"
            ),
            _EXPIRES,
            Option(("--note",), "what it is for", default="", metavar="TEXT"),
            Option(
                ("--save-authority",), "write the cluster's authority to this file", metavar="FILE"
            ),
        ),
        more="The token is shown this once; the cluster keeps a hash of it.",
    ),
    Command(
        ("token", "list"),
        OPERATE,
        "list tokens, without their secrets",
        "access:tokens",
        (("token list", "those that are good"), ("token list -o json", "all that is known")),
    ),
    Command(
        ("token", "revoke"),
        OPERATE,
        "end a token and what it has opened",
        "access:revoke",
        (
            ("token revoke 0011223344556677", "by its id"),
            ("token revoke 0011223344556677 -o json", "and the answer as JSON"),
        ),
        arguments=(Argument("token", "its id"),),
    ),
    Command(
        ("token", "certificate"),
        OPERATE,
        "make a key and certificate for an operator outside",
        "access:certificate",
        (
            ("token certificate anna", "anna.key, anna.crt and authority.crt in this directory"),
            ("token certificate anna --expires 1h --directory keys", "for an hour, in keys/"),
        ),
        arguments=(Argument("name", "whose it is"),),
        options=(
            _EXPIRES,
            Option(("--directory",), "where to put the files", default=".", metavar="DIR"),
        ),
        more="The key is made here and leaves this machine never. A certificate cannot be\n"
        "revoked, so it ends soon: after a day, or at most seven.",
    ),
)
