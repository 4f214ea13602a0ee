#!/bin/sh
# Build an InfluxDB server that the tests start, `1` or `2`, into .cache/influx/ (git-ignored).
#
# 1.8.10 is installed by the Go client alone, about a minute. 2.9.1 is a small Go module of ours
# around its launcher; it needs Rust (libflux), gcc and pkg-config, and about five minutes when every
# cache is empty.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../../.." && pwd)/.cache/influx
mkdir -p "$out/tools" "$out/src"
export GOFLAGS=-mod=mod
export CGO_ENABLED=1

case "$1" in
1)
    GOBIN="$out/tools" go install -ldflags="-X main.version=1.8.10" \
        github.com/influxdata/influxdb/cmd/influxd@v1.8.10
    mv "$out/tools/influxd" "$out/influxd1"
    ;;
2)
    # flux pins a Rust toolchain that need not be installed; any current one builds it.
    export RUSTUP_TOOLCHAIN="${RUSTUP_TOOLCHAIN:-stable}"
    GOBIN="$out/tools" go install github.com/influxdata/pkg-config@v0.3.0
    # A copy, because the build completes go.mod and writes go.sum.
    cp "$here/influxd2/go.mod" "$here/influxd2/main.go" "$out/src/"
    cd "$out/src"
    PKG_CONFIG="$out/tools/pkg-config" go build -trimpath -ldflags='-s -w' -o "$out/influxd2.new" .
    mv "$out/influxd2.new" "$out/influxd2"
    ;;
esac
