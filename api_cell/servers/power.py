"""Actions that turn guests on and off, with the rules that allow them."""

from __future__ import annotations

from api_cell.servers.act import Doing
from cell_service.operations import power

START = Doing(power.START, "os_compute_api:servers:start")
STOP = Doing(power.STOP, "os_compute_api:servers:stop")
PAUSE = Doing(power.PAUSE, "os_compute_api:os-pause-server:pause")
UNPAUSE = Doing(power.UNPAUSE, "os_compute_api:os-pause-server:unpause")
SUSPEND = Doing(power.SUSPEND, "os_compute_api:os-suspend-server:suspend")
RESUME = Doing(power.RESUME, "os_compute_api:os-suspend-server:resume")
REBOOT_SOFT = Doing(power.REBOOT_SOFT, "os_compute_api:servers:reboot")
REBOOT_HARD = Doing(power.REBOOT_HARD, "os_compute_api:servers:reboot")
