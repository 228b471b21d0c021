#!/bin/sh
# Tools that some tests need beyond Python and a C++ compiler: a Cortex-M compiler and emulator, clang with its linker
# for WebAssembly, a browser. Installs what is missing with apt-get where that is possible, and says what is missing
# where it is not. Never fails: those tests are skipped, with their reason, where a tool is absent.
set -u

missing() {
    for pair in arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm clang:clang wasm-ld:lld \
        chromium:chromium; do
        command -v "${pair%%:*}" > /dev/null 2>&1 || printf '%s ' "${pair#*:}"
    done
}

packages=$(missing)
[ -n "$packages" ] || exit 0

if ! command -v apt-get > /dev/null 2>&1; then
    echo "not installed, tests that need them are skipped: $packages"
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo > /dev/null 2>&1 && sudo -n true 2> /dev/null; then
    as_root="sudo -n"
else
    echo "not installed, tests that need them are skipped (as root: apt-get install $packages): $packages"
    exit 0
fi

echo "installing test tools: $packages"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq > /dev/null 2>&1
for package in $packages; do # one by one: a package that a distribution lacks must not stop the others
    $as_root apt-get install -y -qq --no-install-recommends "$package" > /dev/null 2>&1 || true
done
packages=$(missing)
[ -z "$packages" ] || echo "could not be installed, tests that need them are skipped: $packages"
exit 0
