#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks. Elsewhere it says what is missing and stops.
# Usage: scripts/setup.sh run|test|ops|bench
set -euo pipefail
purpose=${1:-run}

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cc build-essential
need make build-essential
need g++ build-essential
need pkg-config pkg-config
need git git
need curl curl
need python3 python3
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
if [ "$purpose" != run ]; then
    need redis-server redis-server
    # tests talk to a real OpenID provider and to the official Socket.IO client, which are node programs
    need node nodejs
    need npm npm
    [ "$purpose" != bench ] || need wrk wrk
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
# Validators of operations (scripts/ci/ops-check.sh). Where one cannot be had its checks say SKIP.
optional=()
if [ "$purpose" = test ] || [ "$purpose" = ops ]; then
    python3 -c 'import yaml' 2>/dev/null || optional+=(python3-yaml)
    command -v shellcheck >/dev/null || optional+=(shellcheck)
    command -v promtool >/dev/null || optional+=(prometheus)
    command -v amtool >/dev/null || [ -x /usr/bin/prometheus-alertmanager ] || optional+=(prometheus-alertmanager)
    command -v jq >/dev/null || optional+=(jq)
    command -v gpg >/dev/null || optional+=(gnupg)
fi
if [ "$purpose" = ops ]; then
    command -v musl-gcc >/dev/null || optional+=(musl-tools)
    command -v busybox >/dev/null || optional+=(busybox)
    command -v file >/dev/null || optional+=(file)
    command -v java >/dev/null || optional+=(default-jre-headless)
    command -v mvn >/dev/null || optional+=(maven)
fi

sudo=()
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then sudo=(sudo); fi
# The packages' own services are not wanted: everything here starts its own servers on its own ports.
apt_install() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    if ! command -v apt-get >/dev/null; then
        printf 'Missing on this machine: %s\nInstall them with your package manager and try again.\n' "${missing[*]}" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && [ ${#sudo[@]} -eq 0 ]; then
        printf 'Missing: %s. Run as root, or install sudo.\n' "${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    apt_install "${missing[@]}"
fi
if [ ${#optional[@]} -gt 0 ] && command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ ${#sudo[@]} -gt 0 ]; }; then
    echo "installing ${optional[*]}"
    [ ${#missing[@]} -gt 0 ] || "${sudo[@]}" apt-get update -qq || true
    for package in "${optional[@]}"; do apt_install "$package" || echo "SKIP: $package cannot be installed" >&2; done
fi

if ! command -v cargo >/dev/null; then
    if ! command -v rustup >/dev/null; then
        echo "installing the Rust toolchain"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy >/dev/null ||
            { echo "Missing: Rust 1.95 or newer (https://rustup.rs)." >&2; exit 1; }
    fi
    echo "Rust was installed; if cargo is not found, open a new shell or run: . \"\$HOME/.cargo/env\""
fi

# The real JavaScript clients and servers that tests talk to.
[ "$purpose" != test ] || "$(dirname "$0")/ci/npm.sh"
