"""Run docker-py's own integration tests against a private engine: `make docker-py CHECKOUT=…` names a clone of it.

The images that the tests ask for are stand-ins made from Debian's busybox, because no public registry is asked.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE), str(HERE / "tests")]

from bench.__main__ import busybox_root  # noqa: E402

from support.engine import PrivateEngine  # noqa: E402

IMAGES = ("alpine:3.10", "alpine:latest", "busybox:latest")
# One file for each kind of thing that this engine serves; the others test networks, swarm, plugins and the builder.
FILES = (
    "api_client_test.py",
    "api_container_test.py",
    "api_exec_test.py",
    "api_healthcheck_test.py",
    "api_image_test.py",
    "api_volume_test.py",
    "client_test.py",
    "context_api_test.py",
    "errors_test.py",
    "models_containers_test.py",
    "models_images_test.py",
    "models_resources_test.py",
    "models_volumes_test.py",
    "regression_test.py",
)


def main() -> int:
    """Start an engine, give it the images, run the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a clone of docker-py")
    parser.add_argument("--all", action="store_true", help="every file, not only those of what is served")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest (after --)")
    arguments = parser.parse_args()
    directory = arguments.checkout / "tests/integration"
    files = sorted(path.name for path in directory.glob("*_test.py")) if arguments.all else FILES
    root = Path(tempfile.mkdtemp(prefix="windlass-docker-py-"))
    engine = PrivateEngine(root)
    try:
        engine.start()
        archive = busybox_root()
        for image in IMAGES:
            repository, _, tag = image.partition(":")
            engine.call("POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", archive)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--timeout=120",
                f"--rootdir={arguments.checkout}",
                *(str(directory / name) for name in files),
                *arguments.pytest,
            ],
            cwd=arguments.checkout,
            env=engine.environment | {"DOCKER_TEST_API_VERSION": "1.45", "HOME": str(root)},
            check=False,
        )
        return done.returncode
    finally:
        engine.close()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
