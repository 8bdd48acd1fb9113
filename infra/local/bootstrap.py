"""Prepares this machine for the local stack: checks the tools that it can't install, and installs the rest.

It uses only the standard library and runs on old Pythons too, to report a Python that is too old. The pinned packages
are installed into separate virtual environments: target/local/venv and, for the template checks, target/local/checkov
and target/local/sam. cargo-deny is installed into target/local/cargo-deny. A second run finds them and does nothing.

usage: bootstrap.py [lint] [lambda] [bench]
    lint: also checks for rustfmt and clippy, and installs checkov, sam and cargo-deny
    lambda: also installs cargo-lambda
    bench: also installs rclone and s5cmd
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
VENV = os.path.join(ROOT, "target", "local", "venv")
# These tools need other versions of the stack's packages.
CHECKOV = os.path.join(ROOT, "target", "local", "checkov")
SAM = os.path.join(ROOT, "target", "local", "sam")
CARGO_DENY = os.path.join(ROOT, "target", "local", "cargo-deny")
CARGO_DENY_VERSION = "0.18.9"
RUSTUP = "get it from https://rustup.rs"


def main(wanted):
    missing = check(wanted)
    if missing:
        print("This machine lacks these requirements of the local stack:", file=sys.stderr)
        for problem, remedy in missing:
            print("  {}\n    -> {}".format(problem, remedy), file=sys.stderr)
        return 1
    install("requirements.txt", VENV, fresh=True)
    for tools in ("lambda", "bench"):
        if tools in wanted:
            install("requirements-{}.txt".format(tools), VENV, fresh=False)
    if "lint" in wanted:
        install("requirements-checkov.txt", CHECKOV, fresh=True)
        install("requirements-sam.txt", SAM, fresh=True)
        install_cargo_deny()
    return 0


def check(wanted):
    """The missing tools, each with the way to get it."""
    missing = []
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        missing.append(
            ("Linux on x86-64 (the Milvus wheel's platform)", "run it there, in a virtual machine for example")
        )
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        problem = "Python 3.10 to 3.13 ({} is {})".format(sys.executable, platform.python_version())
        missing.append((problem, "apt-get install python3 python3-venv, or: make PYTHON=/path/to/python3.11"))
    elif not importable("venv", "ensurepip"):
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        missing.append(("Python's venv module", "apt-get install {}".format(package)))

    needed = rust_version()
    for tool in ("cargo", "rustc"):
        found = version([tool, "--version"])
        if found is None:
            missing.append(("{} {} or newer".format(tool, dotted(needed)), RUSTUP))
        elif found < needed:
            missing.append(("{} {} or newer (found {})".format(tool, dotted(needed), dotted(found)), "rustup update"))
    if shutil.which("cc") is None:
        missing.append(("a C compiler, which Rust links with", "apt-get install gcc"))
    if "lint" in wanted:
        for component in ("fmt", "clippy"):
            if version(["cargo", component, "--version"]) is None:
                name = "rustfmt" if component == "fmt" else component
                missing.append(("cargo {}".format(component), "rustup component add {}".format(name)))
    return missing


def install(requirements, environment, fresh):
    """Installs a list of packages, unless the environment was made from the same list by the same Python."""
    python = os.path.join(environment, "bin", "python")
    path = os.path.join(HERE, requirements)
    with open(path, "rb") as file:
        wanted = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
    stamp = os.path.join(environment, requirements + ".installed")
    if os.path.exists(stamp) and version([python, "--version"]) is not None:
        with open(stamp) as file:
            if file.read() == wanted:
                return
    started = time.time()
    print("Installing {} ...".format(os.path.relpath(path, ROOT)), flush=True)
    if fresh:
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", environment])
    # The lists are complete and pinned: no dependency is resolved, nothing is compiled.
    subprocess.check_call(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + ["--no-deps", "--only-binary=:all:", "-r", path]
    )
    with open(stamp, "w") as file:
        file.write(wanted)
    print("  done in {:.0f} s".format(time.time() - started), flush=True)


def install_cargo_deny():
    """Builds cargo-deny, for which there is no package, unless it is installed. This takes some minutes."""
    if version([os.path.join(CARGO_DENY, "bin", "cargo-deny"), "--version"]) == numbers(CARGO_DENY_VERSION):
        return
    started = time.time()
    print("Building cargo-deny {} ...".format(CARGO_DENY_VERSION), flush=True)
    subprocess.check_call(
        ["cargo", "install", "--quiet", "--locked", "--debug", "--root", CARGO_DENY]
        + ["--target-dir", os.path.join(CARGO_DENY, "target"), "cargo-deny@" + CARGO_DENY_VERSION],
        cwd=ROOT,
    )
    shutil.rmtree(os.path.join(CARGO_DENY, "target"))
    print("  done in {:.0f} s".format(time.time() - started), flush=True)


def rust_version():
    """The oldest Rust that the workspace supports, from `rust-version`."""
    with open(os.path.join(ROOT, "Cargo.toml")) as file:
        return numbers(re.search(r'^rust-version = "([0-9.]+)"', file.read(), re.MULTILINE).group(1))


def version(command):
    """The version that a command reports, or None if it doesn't run."""
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"[0-9]+(\.[0-9]+)+", answer.stdout.decode(errors="replace"))
    return numbers(found.group(0)) if found else ()


def importable(*modules):
    try:
        for module in modules:
            __import__(module)
    except ImportError:
        return False
    return True


def numbers(text):
    return tuple(int(part) for part in text.split("."))


def dotted(parts):
    return ".".join(str(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
