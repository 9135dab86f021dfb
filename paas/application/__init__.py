"""The application controller: many components, their routes and their order, as one thing.

`specification` reads application.toml, `state` keeps what is wanted, `plan` says what is missing,
`agent` does it.  Document: internals/world/application.md.
"""
