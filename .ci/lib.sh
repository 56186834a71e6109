# What the scripts share. Sourced by bash.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Node lands here where Debian's is too old; target/ is never committed.
tools="$PWD/target/tools"
PATH="$tools/bin:$PATH:$HOME/.cargo/bin"
export PATH

has() { command -v "$1" >/dev/null 2>&1; }

# The browser that the tests drive: Debian's, or one that is there already.
browser() {
    local name
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        if command -v "$name"; then return; fi
    done
    return 1
}

# Installs Debian packages: as root, or with sudo where there is one.
apt_install() {
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || { echo "error: missing: $*; install them as root, or install sudo" >&2; exit 1; }
        root=(sudo)
    fi
    has apt-get || { echo "error: missing: $*; there is no apt-get here to install them with" >&2; exit 1; }
    echo "installing $*"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}
