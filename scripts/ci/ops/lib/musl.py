"""The C parts of the programs with musl: compiled by their own crates' build scripts, linked statically, run.

The images are built on Alpine, where the C compiler is that of musl. Here Debian's musl-gcc stands for it. The build scripts are those
that cargo compiled for this workspace: they are run as cargo would run them for x86_64-unknown-linux-musl, so that sources and options
are the real ones, with a PATH on which there is nothing but what the images' packages bring (BusyBox, bash, make, binutils, a C and a
C++ compiler). Debian has no C++ library for musl: librdkafka's C++ wrapper, which `make libs` compiles too and no program links, gets
the machine's own.

Usage: musl.py   Prints one line per check.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[4]
PROOFS = pathlib.Path(__file__).resolve().parent / "musl"
TARGET = "x86_64-unknown-linux-musl"
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or pathlib.Path.home() / ".cache/dreamscape/target")
PROGRAMS = ("core-pod", "business-pod", "experience-pod", "autoscaler")
# Crate, what it is called here; in the order in which one needs the other.
PARTS = {"libz-sys": "zlib", "zstd-sys": "zstd", "libmimalloc-sys": "mimalloc", "blake3": "blake3", "aws-lc-sys": "aws_lc", "rdkafka-sys": "rdkafka"}
# Crates that ask for a C compiler or a library of the machine when they are built.
COMPILERS = {"cc", "cmake", "pkg-config", "bindgen"}
# Alpine's package, and what of it is on the PATH of the build scripts. BusyBox is in the base image.
PACKAGES = {"bash": ["bash"], "build-base": ["make", "as", "ld", "ar", "nm", "ranlib", "strip", "objdump", "objcopy", "x86_64-linux-gnu-gcc", "musl-gcc", "g++"]}

failed = False


def line(status, text):
    global failed
    failed |= status == "FAIL"
    print(f"{status}\tV21\tR-093\t{text}", flush=True)


def check(text, fault):
    line("FAIL" if fault else "PASS", f"{text}: {' '.join(str(fault).split())[:600]}" if fault else text)
    return not fault


def run(command, **options):
    """Nothing when it went well, else the end of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=900, **options)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end"
    return "" if done.returncode == 0 else f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"


def cargo(*arguments):
    """What cargo says of the locked packages, from what is on the machine if that is enough."""
    for offline in (["--offline"], []):
        done = subprocess.run([ROOT / "scripts/cargo.sh", *arguments, "--locked", "--no-default-features", *offline],
                              capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode == 0:
            return done.stdout
    raise SystemExit(f"cargo {arguments[0]}: {done.stderr}")


def c_parts():
    """The packages of the programs whose build scripts ask for a C compiler or a library, by name, each with its features."""
    listed = cargo("tree", "--edges=normal", "--prefix=none", "--format={p}|{f}", f"--target={TARGET}", *(f"--package={name}" for name in PROGRAMS))
    features = {}
    for name, version, wanted in re.findall(r"^(\S+) v([^\s|]+)[^|]*\|(\S*)", listed, re.M):
        features.setdefault((name, version), set()).update(filter(None, wanted.split(",")))
    about = json.loads(cargo("metadata", "--format-version=1", f"--filter-platform={TARGET}"))
    names = {package["id"]: package["name"] for package in about["packages"]}
    builders = {node["id"]: {names[needed["pkg"]] for needed in node["deps"] if any(kind["kind"] == "build" for kind in needed["dep_kinds"])}
                for node in about["resolve"]["nodes"]}
    return {package["name"]: (package, features[package["name"], package["version"]]) for package in about["packages"]
            if (package["name"], package["version"]) in features and builders[package["id"]] & COMPILERS}


def build_script(package):
    """The compiled build script of this very version, or nothing."""
    place = f"/{package['name']}-{package['version']}/"
    for profile in ("release", "debug"):
        for listing in sorted(BUILT.glob(f"{profile}/build/{package['name']}-*/*.d")):
            program = listing.parent / ("build-script-main" if (listing.parent / "build-script-main").exists() else "build-script-build")
            if program.exists() and place in listing.read_text(encoding="utf-8"):
                return program
    return None


def path(scratch):
    """A folder for PATH as in the image: BusyBox and the packages, and nothing else."""
    folder = scratch / "path"
    folder.mkdir()
    busybox = shutil.which("busybox")
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(busybox)
    for tool in [tool for tools in PACKAGES.values() for tool in tools]:
        place = folder / tool
        place.unlink(missing_ok=True)
        place.symlink_to(shutil.which(tool))
    for name, tool in (("cc", "musl-gcc"), ("gcc", "musl-gcc"), ("c++", "g++")):
        (folder / name).symlink_to(shutil.which(tool))
    return folder


def compile_part(package, script, features, scratch, tools, roots):
    """Runs a build script as cargo would. Returns its output, or why it failed."""
    out = scratch / "out" / package["name"]
    out.mkdir(parents=True)
    home = pathlib.Path(package["manifest_path"]).parent
    major, minor, patch = package["version"].split("+")[0].split(".")[:3]
    environment = {
        "PATH": str(tools), "HOME": str(scratch), "OUT_DIR": str(out), "TARGET": TARGET, "HOST": TARGET, "NUM_JOBS": "2", "OPT_LEVEL": "3",
        "DEBUG": "false", "PROFILE": "release", "CC": "musl-gcc", "CARGO_MANIFEST_DIR": str(home), "CARGO_PKG_NAME": package["name"],
        "CARGO_PKG_VERSION": package["version"], "CARGO_PKG_VERSION_MAJOR": major, "CARGO_PKG_VERSION_MINOR": minor,
        "CARGO_PKG_VERSION_PATCH": patch, "CARGO_CFG_TARGET_OS": "linux", "CARGO_CFG_TARGET_ARCH": "x86_64", "CARGO_CFG_TARGET_ENV": "musl",
        "CARGO_CFG_TARGET_VENDOR": "unknown", "CARGO_CFG_TARGET_FAMILY": "unix", "CARGO_CFG_TARGET_ENDIAN": "little",
        "CARGO_CFG_TARGET_POINTER_WIDTH": "64", "CARGO_CFG_TARGET_FEATURE": "crt-static,fxsr,sse,sse2",
    }
    for feature in features:
        environment["CARGO_FEATURE_" + feature.upper().replace("-", "_")] = "1"
    for crate, root in roots.items():
        environment[f"DEP_{crate}_ROOT"] = str(root)
    fault = run([str(script)], cwd=home, env=environment)
    return out, fault


def link(scratch, sources, archives, options):
    """A static program that runs the checks of these parts, one after the other, and ends with 0 when all are content."""
    names = [source.stem for source in sources]
    main = scratch / f"main-{'-'.join(names)}.c"
    main.write_text("#include <stdio.h>\n" + "".join(f"int check_{name}(void);\n" for name in names) + "int main(void) {\n    int code;\n"
                    + "".join(f'    if ((code = check_{name}())) {{ printf("{name}: check %d failed\\n", code); return 1; }}\n' for name in names)
                    + "    return 0;\n}\n", encoding="utf-8")
    program = scratch / f"prove-{'-'.join(names)}"
    fault = run(["musl-gcc", "-static", "-O2", "-Wall", "-Werror", *options, str(main), *map(str, sources), *map(str, archives), "-lm", "-lpthread",
                 "-o", str(program)])
    return program, fault


def prove(scratch, program):
    """Runs it where there is nothing: no library, no file, no variable."""
    what = subprocess.run(["file", "-b", str(program)], capture_output=True, text=True, check=True).stdout
    if "statically linked" not in what and "static-pie linked" not in what:
        return f"not static: {what}"
    empty = scratch / "empty"
    empty.mkdir(exist_ok=True)
    shutil.copy(program, empty / "prove")
    if os.geteuid() == 0:
        return run(["chroot", str(empty), "/prove"], env={"PATH": os.environ["PATH"]})
    return run([str(empty / "prove")], env={})


def dockerfiles():
    """The images' builders install what was on the PATH here, and nothing else."""
    files = [*sorted(ROOT.glob("docker/*/Dockerfile.prod")), ROOT / "docker/autoscaler/Dockerfile"]
    for file in files:
        builder = file.read_text(encoding="utf-8").split("AS builder", 1)[1].split("\nFROM ", 1)[0]
        installed = re.findall(r"apk add --no-cache ([\w. -]+)", builder)
        if not installed or set(" ".join(installed).split()) != set(PACKAGES):
            yield f"{file.relative_to(ROOT)} installs {' '.join(installed) or 'nothing'}; needed is {' '.join(sorted(PACKAGES))}"


def main():
    parts = c_parts()
    names = sorted(parts)
    check(f"the programs have these C parts and no other: {', '.join(PARTS)}", "" if names == sorted(PARTS) else f"found {', '.join(names)}")
    check("the images' builders install the packages that these parts were compiled with: " + ", ".join(sorted(PACKAGES)), "; ".join(dockerfiles()))

    scratch = pathlib.Path(tempfile.mkdtemp(prefix="musl-"))
    try:
        tools = path(scratch)
        roots, sources, archives, options = {}, [], [], []
        for crate, name in PARTS.items():
            if crate not in parts:
                continue
            package, features = parts[crate]
            text = f"{crate} {package['version']} compiled by its build script with musl-gcc"
            script = build_script(package)
            if not script:
                line("SKIP", f"{text} (the pods were not built before)")
                continue
            out, fault = compile_part(package, script, features, scratch, tools, roots)
            home = pathlib.Path(package["manifest_path"]).parent
            if not check(text, fault):
                continue
            if package["links"]:
                roots[package["links"].upper().replace("-", "_")] = out
            own = [archive for archive in sorted(out.rglob("*.a")) if "src-cpp" not in archive.parts and "dbg" not in archive.name and "-static" not in archive.name]
            prefix = "aws_lc_" + package["version"].replace(".", "_")
            option = {
                "zlib": [f"-I{out}/include"], "zstd": [f"-I{out}/include"], "mimalloc": [f"-I{home}/c_src/mimalloc/v3/include"], "blake3": [],
                "aws_lc": [f"-DBORINGSSL_PREFIX={prefix}", f"-I{home}/generated-include", f"-I{home}/include", f"-I{home}/aws-lc/include"],
                "rdkafka": [f"-I{out}/src", f'-DVERSION="{package["version"].split("+")[-1]}"'],
            }[name]
            source = PROOFS / f"{name}.c"
            program, fault = link(scratch, [source], own + (archives if name == "rdkafka" else []), option)
            check(f"{crate}: a static program that uses it runs in an empty root: {source.read_text(encoding='utf-8').split('/* ', 1)[1].split(' */')[0].split(': ', 1)[1].rstrip('.')}",
                  fault or prove(scratch, program))
            sources.append(source)
            archives = own + archives
            options += option
        if len(sources) == len(PARTS):
            program, fault = link(scratch, sources, archives, options)
            check("all of them in one static program, as in a pod", fault or prove(scratch, program))
    finally:
        if os.environ.get("KEEP"):
            print(f"kept {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
