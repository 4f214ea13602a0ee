"""How the two InfluxDB servers are started."""

import socket
from pathlib import Path


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_1(program: Path, home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how 1.8 is started: everything by environment."""
    environment = {
        "INFLUXDB_REPORTING_DISABLED": "true",
        "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
        "INFLUXDB_META_DIR": f"{home}/meta",
        "INFLUXDB_DATA_DIR": f"{home}/data",
        "INFLUXDB_DATA_WAL_DIR": f"{home}/wal",
        "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
        "INFLUXDB_MONITOR_STORE_ENABLED": "false",
        "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
        "INFLUXDB_HTTP_AUTH_ENABLED": "true",
        "INFLUXDB_HTTP_FLUX_ENABLED": "true",
        "INFLUXDB_HTTP_LOG_ENABLED": "false",
    }
    return [str(program), "-config", "/dev/null"], environment


def command_2(program: Path, home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how 2.9 is started: everything by argument."""
    places = [
        *("--bolt-path", f"{home}/influxd.bolt"),
        *("--sqlite-path", f"{home}/influxd.sqlite"),
        *("--engine-path", f"{home}/engine"),
        *("--http-bind-address", f"127.0.0.1:{port}"),
    ]
    return [str(program), *places, "--reporting-disabled", "--log-level", "error"], {}
