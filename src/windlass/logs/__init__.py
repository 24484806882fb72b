"""Log drivers: how a container's output is stored and read back.

The monitor of a container writes (`driver.open_writer`: synchronous, few imports), the engine reads
(`reading.open_reader`: asyncio, batches). They share nothing but the files, so a log goes on without the daemon and a
new daemon reads it without asking anybody.

    options.py     what `--log-opt` may say; dockerd's messages
    lines.py       chunks of output -> lines and 16 KiB parts of long lines
    jsonfile.py    json-file: dockerd's own format on disk        local.py    local: our compact binary format
    rotation.py    size limit, path.1 … path.N, gzip              frames.py   the multiplexed wire format
    files.py       the set of files of one log, in order          reader.py   tail, since, until, follow
    watch.py       inotify: "something changed in this folder"    entry.py    one line read back
"""
