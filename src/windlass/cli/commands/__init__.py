"""One file for each group of commands; `COMMANDS` in it maps a command's last word to its declaration."""
