"""The daemon's side of launcher and monitors (asyncio). The daemon itself never forks.

    launcher = await Launcher.start(exec_root)
    monitor = await launcher.launch(directory)        # the container runs
    status = await monitor.wait()                     # … and has ended, is recorded, and its cgroup is gone

After a restart of the daemon `Monitor.connect(directory)` finds the monitor again, or settles what a dead one has left:
kills the container's processes, removes its cgroup, and records the end as 137 with a reason.

    launcher.py  the launcher's process       monitor.py  one container's monitor
    link.py      lines of JSON, both ways     types.py    what is passed and raised
"""

from windlass.runtime.burial import bury, read_exec_exit, read_exit
from windlass.runtime.client.launcher import Launcher
from windlass.runtime.client.monitor import ExecSession, Monitor
from windlass.runtime.client.types import Attachment, ExecSpec, LaunchError, NoMonitor
from windlass.runtime.records import ExitStatus

__all__ = [
    "Attachment",
    "ExecSession",
    "ExecSpec",
    "ExitStatus",
    "LaunchError",
    "Launcher",
    "Monitor",
    "NoMonitor",
    "bury",
    "read_exec_exit",
    "read_exit",
]
