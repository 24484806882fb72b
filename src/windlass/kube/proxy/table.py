"""The proxy's table of one IP version: what stands there, and how it comes to be what it should be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from windlass.kernel.nftables import Nftables
from windlass.kube.proxy import rules
from windlass.kube.proxy.rules import FAMILIES, Rules


class ProxyTable:
    """One table. `apply` may be called from any thread, one at a time.

    Services may want the same element (their endpoint is one pod, say): it stays as long as one of them does.
    """

    def __init__(self, nftables: Nftables, name: str, version: int) -> None:
        self._nftables = nftables
        self._name = name
        self._version = version
        self._parts: dict[str, Rules] = {}
        self._wanted: Counter[tuple[str, str]] = Counter()
        self._stands = False
        self._lock = threading.Lock()

    def apply(self, changes: Mapping[str, Rules | None]) -> None:
        """Take the rules of some services, None for those that are gone, and make the kernel's table so.

        Raises:
            OSError: the next call makes the whole table anew.
        """
        with self._lock:
            script = self._take(changes)
            if self._stands:
                try:
                    self._run(script)
                    return
                except (FileNotFoundError, FileExistsError):
                    self._stands = False  # somebody flushed or changed our table
                except OSError:
                    self._stands = False
                    raise
            self._replace()

    def _take(self, changes: Mapping[str, Rules | None]) -> str:
        """Keep the new rules; the script by which the table follows."""
        before, after = Rules(), Rules()
        already = {key for part in changes.values() if part for key in part.elements if self._wanted[key]}
        for name, part in changes.items():
            old = self._parts.pop(name, None)
            if old is not None:
                before.update(old)
                self._wanted.subtract(old.elements.keys())
            if part is not None:
                self._parts[name] = part
                after.update(part)
                self._wanted.update(part.elements.keys())
        shared = {key for key in before.elements if key not in after.elements and self._wanted[key] > 0}
        shared |= {key for key in after.elements if key not in before.elements and key in already}
        for key in shared:
            before.elements.pop(key, None)
            after.elements.pop(key, None)
        for key in [key for key, count in self._wanted.items() if count <= 0 and key in before.elements]:
            del self._wanted[key]
        return rules.difference(FAMILIES[self._version], self._name, before, after)

    def _replace(self) -> None:
        everything = rules.merged(self._parts.values())
        script = rules.structure(self._version, self._name)
        self._run(script + rules.difference(FAMILIES[self._version], self._name, Rules(), everything))

    def remove(self) -> None:
        """Take the table away. Raises OSError."""
        with self._lock:
            family = FAMILIES[self._version]
            self._stands = False
            self._nftables.run(
                f"add table {family} {self._name}\ndelete table {family} {self._name}\n", about=f"table {self._name}"
            )

    def _run(self, script: str) -> None:
        if script:
            self._nftables.run(script, about=f"table {self._name}")
        self._stands = True
