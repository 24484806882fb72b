"""The `windlass` command: a client of the sockets, with the verbs, flags and output that docker's users know.

    main        finds the command in a table and imports only its module
    flags       a command's declaration and the parser of its line, with the grammar of docker's flags
    client      HTTP/1.1 over the socket, with hijacked streams
    streams     terminal and pipes against an attached container
    templates   `--format`: the Go template subset that people write
    tables, units, progress, credentials   what several commands share
    commands/   one file for each group of commands

Nothing here imports asyncio, ssl or rich before it is needed: a usage error costs about the start of an interpreter.
"""
