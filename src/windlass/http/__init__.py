"""The HTTP/1.1 server with upgrades and hijacked streams that the APIs stand on."""
