#!/bin/sh
# Fetch what the tests of pages need beside Python: Debian's Chromium, and axe-core, which judges accessibility.
# Run by `make tools`, in the repository's folder. Needs apt and npm where they are missing; instant where they are not.
set -eu

TOOLS="$PWD/build/tools"
AXE=4.14.1
AXE_SHA256=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745

missing() {
    echo "$1 is missing: $2" >&2
    exit 1
}

unpack_chromium() (
    # Without root nothing can be installed: it and what it misses here are unpacked beside each other.
    mkdir -p "$TOOLS/chromium.new" && cd "$TOOLS/chromium.new"
    names=$(apt-get install --simulate --no-install-recommends chromium | awk '/^Inst/ { print $2 }')
    apt-get download -qq $names
    for package in *.deb; do dpkg-deb -x "$package" .; done
    rm ./*.deb
    mv "$TOOLS/chromium.new" "$TOOLS/chromium"
)

fetch_axe() (
    mkdir -p "$TOOLS/axe-core.new" && cd "$TOOLS/axe-core.new"
    npm pack --silent "axe-core@$AXE" >/dev/null
    echo "$AXE_SHA256  axe-core-$AXE.tgz" | sha256sum --check --quiet
    tar xzf "axe-core-$AXE.tgz" --strip-components=1 package/axe.min.js
    rm "axe-core-$AXE.tgz"
    echo "$AXE" >version
    rm -rf "$TOOLS/axe-core" && mv "$TOOLS/axe-core.new" "$TOOLS/axe-core"
)

if ! command -v chromium >/dev/null && ! test -x "$TOOLS/chromium/usr/lib/chromium/chromium"; then
    command -v apt-get >/dev/null || missing Chromium "install it."
    rm -rf "$TOOLS/chromium.new"
    if test "$(id -u)" = 0; then
        apt-get install -qq -y --no-install-recommends chromium >/dev/null ||
            { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }
    else
        unpack_chromium
    fi
fi

if test "$(cat "$TOOLS/axe-core/version" 2>/dev/null)" != "$AXE"; then
    rm -rf "$TOOLS/axe-core.new"
    command -v npm >/dev/null || missing npm "axe-core comes from it (Debian: npm)."
    fetch_axe
fi
