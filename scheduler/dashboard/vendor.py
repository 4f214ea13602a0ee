"""`python -m scheduler.dashboard.vendor`: fetch from npm what the pages and their tests use.

The pages need no network: what is named here is committed, with licence and checksums. A test
compares them; what only tests need goes to `.cache/vendor`.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from base64 import b64encode
from dataclasses import asdict, dataclass
from hashlib import sha256, sha512
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDORED = Path(__file__).resolve().parent / "static" / "vendor"
FOR_TESTS = ROOT / ".cache" / "vendor"


@dataclass(frozen=True, kw_only=True)
class Package:
    """An npm package at one version: its licence, npm's digest of it, and the files taken."""

    name: str
    version: str
    licence: str
    integrity: str
    files: dict[str, str]


SHIPPED = (
    Package(
        name="htmx.org",
        version="2.0.11",
        licence="0BSD",
        integrity="sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMC"
        "gELTNt636dtamA==",
        files={"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE"},
    ),
    Package(
        name="chart.js",
        version="4.6.1",
        licence="MIT",
        integrity="sha512-hJyniucsFmq//EvXYvJ6c6mahPoI3kaxdjVH8awTaJ/fDNWeSqqqArixMJWkWNN6fcYv"
        "PU3HneSANFNYtRi61g==",
        files={"dist/chart.umd.min.js": "chart.umd.min.js", "LICENSE.md": "chart.LICENSE"},
    ),
)
TESTED_WITH = (
    Package(
        name="axe-core",
        version="4.14.1",
        licence="MPL-2.0",
        integrity="sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFoo"
        "JpZe37OgudVGtQ==",
        files={"axe.min.js": "axe.min.js"},
    ),
)


def fetch(package: Package, folder: Path) -> dict[str, str]:
    """Put a package's files into a folder; return their sha256. Raises ValueError if it differs."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = f"{package.name}@{package.version}"
        command = ["npm", "pack", wanted, "--silent", "--pack-destination", scratch]
        subprocess.run(command, check=True, cwd=scratch, stdout=subprocess.DEVNULL)
        [archive] = Path(scratch).glob("*.tgz")
        found = "sha512-" + b64encode(sha512(archive.read_bytes()).digest()).decode()
        if found != package.integrity:
            raise ValueError(f"{wanted} is {found}, not {package.integrity}")
        digests = {}
        with tarfile.open(archive) as packed:
            for source, target in package.files.items():
                member = packed.extractfile(f"package/{source}")
                assert member is not None
                content = member.read()
                (folder / target).write_bytes(content)
                digests[target] = sha256(content).hexdigest()
    return digests


def main() -> None:
    """Fetch everything and write the manifest."""
    entries = [
        asdict(package) | {"sha256": fetch(package, VENDORED)} | {"files": package.files}
        for package in SHIPPED
    ]
    (VENDORED / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n")
    for package in TESTED_WITH:
        fetch(package, FOR_TESTS)
    sys.stdout.write(f"fetched into {VENDORED} and {FOR_TESTS}\n")


if __name__ == "__main__":
    main()
