"""The `paas` command: everything a person does with the platform, through its public API only.

    commands   the one table: words, arguments, options, examples; help, completion and the
               reference page are made from it
    main       from arguments to an exit status
    parser     one row of the table to a parser of its arguments
    session    what a command is given: where the cluster is, a connection, the output
    output     formats, colour, errors; the only place that prints
    connection a blocking JSON-RPC client on the operators' socket
    reach      which node of several answers
    supervisor what keeps one node alive: the outermost process of a node, or of a machine
    machines   one machine of a development cluster of several nodes
    fleet      all of them: started, settled, ended

The rest are the commands themselves, a module a noun.  Nothing here imports an event loop, a
certificate library or a table library: `paas --help` must appear at once.
"""
