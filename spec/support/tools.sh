#!/bin/sh
# tools.sh FOLDER: tools of others that specs call and Debian does not have, from npm, into FOLDER and nowhere else.
# Without npm, or without a network, it says so; their specs are skipped then.
set -u

version=2.35.0
folder=$1
marker=$folder/dbmate-$version
[ -e "$marker" ] && exit 0
missed=$folder/dbmate-$version.missed
if [ -n "$(find "$missed" -mmin -60 2>/dev/null)" ]; then exit 0; fi # said an hour ago, or less
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not installed: the specs of dbmate are skipped"
    exit 0
fi

echo "installing: dbmate $version in $folder"
mkdir -p "$folder" || exit 1
log=$folder/npm.log
# Node has authorities of its own; the machine's may say more.
authorities=/etc/ssl/certs/ca-certificates.crt
[ -z "${NODE_EXTRA_CA_CERTS:-}" ] && [ -r "$authorities" ] && export NODE_EXTRA_CA_CERTS="$authorities"
if npm install --prefix "$folder" --cache "$folder/cache" --no-save --no-audit --no-fund --ignore-scripts \
    --fetch-retries 1 --fetch-timeout 30000 \
    "dbmate@$version" >"$log" 2>&1 </dev/null; then
    rm -rf "$folder/cache" "$log" "$missed"
    : >"$marker"
else
    : >"$missed"
    echo "dbmate could not be installed ($log): its specs are skipped"
fi
