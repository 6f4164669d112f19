#!/usr/bin/env bash
# Fetches WikiText-2 (Merity et al. 2016): DATA_DIR/wikitext-2/{train,valid,test}.txt, with [UNK] for <unk>.
# Errors are one line and an exit code, as those of nemo-bert: 2 usage, 3 data, 5 storage.
set -euo pipefail

# NeMo 0.10's address returns 403 (pytorch/text issues 2247 and 2255). The second is maintained by the corpus's
# first author; it rejects clients whose user agent is not a browser's.
sources=(
    https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip
    https://wikitext.smerity.com/wikitext-2-v1.zip
)
# As recorded by projects that fetched it from the first address: ml-explore/mlx-data (datasets/wikitext.py),
# dellison/WikiText.jl (src/WikiText.jl).
sha256=92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c
max_zip_kib=20480 # it has 4.5 MB

usage() {
    cat <<'TEXT'
usage: get_wkt2.sh [options] DATA_DIR

Fetches WikiText-2 to DATA_DIR/wikitext-2: train.txt, valid.txt and test.txt, with [UNK] for <unk>.

  --url URL       address of wikitext-2-v1.zip, in place of the built-in ones; may be given several times.
                  The environment variable WIKITEXT2_URL does the same.
  --zip FILE      use this wikitext-2-v1.zip instead of fetching it
  --sha256 SUM    expected SHA-256 of the zip, in place of the built-in one; "none" accepts any
  -h, --help      this text
TEXT
}

fail() { # EXIT_CODE CODE TEXT
    printf 'error[%s] get_wkt2.sh: %s\n' "$2" "$3" >&2
    exit "$1"
}

# Hides what may be secret: user name, password and query.
shown() { printf '%s' "$1" | sed -e 's#//[^/@]*@#//#' -e 's#?.*##'; }

data_dir='' zip='' given=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --url=* | --zip=* | --sha256=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
        --url | --zip | --sha256)
            [[ ${2:-} ]] || fail 2 USAGE "$1 without a value; fix: see get_wkt2.sh --help"
            case $1 in
                --url) given+=("$2") ;;
                --zip) zip=$2 ;;
                --sha256) sha256=$2 ;;
            esac
            shift 2
            ;;
        -*) fail 2 USAGE "unknown option; found $1, expected --url, --zip or --sha256" ;;
        *)
            [[ ! $data_dir ]] || fail 2 USAGE "two folders; found $data_dir and $1, expected one"
            data_dir=$1
            shift
            ;;
    esac
done
[[ $data_dir ]] || fail 2 USAGE 'no folder; expected get_wkt2.sh DATA_DIR'
[[ $sha256 == none || $sha256 =~ ^[0-9a-fA-F]{64}$ ]] ||
    fail 2 USAGE "--sha256: not a SHA-256; found $sha256, expected 64 hexadecimal digits or none"
if ((${#given[@]})); then
    sources=("${given[@]}")
elif [[ ${WIKITEXT2_URL:-} ]]; then
    sources=("$WIKITEXT2_URL")
fi

texts=$data_dir/wikitext-2
if [[ -s $texts/train.txt && -s $texts/valid.txt && -s $texts/test.txt ]]; then
    echo "WikiText-2 is already in $texts"
    exit 0
fi
command -v python3 >/dev/null || fail 2 USAGE 'python3 is not on the PATH; fix: install it'

{ mkdir -p -- "$texts" && aside=$(mktemp -d "$texts/.get_wkt2.XXXXXX"); } 2>/dev/null ||
    fail 5 STORAGE "$texts: cannot be written to; fix: use another folder"
trap 'rm -rf -- "$aside"; rmdir -- "$texts" 2>/dev/null || true' EXIT # rmdir fails unless it is empty

# unpack ZIP: checks the zip and writes the three texts to $aside; on error, prints it and returns 3 or 5.
unpack() {
    python3 - "$1" "$aside" "$sha256" "$max_zip_kib" <<'PYTHON'
import hashlib
import os
import sys
import zipfile

path, folder, expected, max_kib = sys.argv[1:]
MEMBERS = {f"wikitext-2/wiki.{part}.tokens": f"{part}.txt" for part in ("train", "valid", "test")}
MAX_BYTES = 50 << 20  # limit for a text; the largest has 10.8 MB


def refuse(problem, exit_code=3):
    print(problem)
    sys.exit(exit_code)


def texts(archive):
    """(file name, content) of the three texts; ignores other members and never uses paths of the archive."""
    names = archive.namelist()
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            refuse(f"a member with an unsafe path; found {name!r}")
    for member, name in MEMBERS.items():
        if names.count(member) != 1:
            refuse(f"found {names.count(member)} members {member!r}, expected one")
        with archive.open(member) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            refuse(f"{member!r} is too large; expected at most {MAX_BYTES} bytes")
        yield name, content


try:
    if os.path.getsize(path) > int(max_kib) << 10:
        refuse(f"too large; found {os.path.getsize(path)} bytes, expected at most {max_kib} KiB")
    if not zipfile.is_zipfile(path):
        refuse("not a complete zip archive")
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if expected != "none" and found != expected.lower():
        refuse(f"wrong archive; found SHA-256 {found}, expected {expected} (--sha256 none accepts any)")
    with zipfile.ZipFile(path) as archive:
        contents = dict(texts(archive))
except Exception as error:  # zipfile has no common base class for its errors
    refuse(f"cannot be read; found {error}")
try:
    for name, content in contents.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content.replace(b"<unk>", b"[UNK]"))
            file.flush()
            os.fsync(file.fileno())
except OSError as error:
    refuse(error.strerror.lower(), 5)
PYTHON
}

# fetch URL FILE: on error, prints it and returns 3, or 5 for errors of the disk.
fetch() (
    ulimit -f "$max_zip_kib" 2>/dev/null || true # maximum size of all files written from here on
    code=0
    if command -v curl >/dev/null; then
        why=$(curl -fsSL -A 'Mozilla/5.0' --proto '=http,https' --proto-redir '=http,https' \
            --connect-timeout 20 --max-time 600 --retry 2 -o "$2" -- "$1" 2>&1) || code=$?
        disk=23
    else
        why=$(wget -q -U 'Mozilla/5.0' --connect-timeout=20 --read-timeout=60 --tries=3 -O "$2" -- "$1" 2>&1) ||
            code=$?
        why=${why:-wget ended with $code} disk=3
    fi
    case $code in
        0) exit 0 ;;
        "$disk") echo 'not enough space for the archive' && exit 5 ;;
        153) echo "more than $max_zip_kib KiB" ;; # killed by SIGXFSZ
        *) printf '%s' "$why" | head -n 1 ;;
    esac
    exit 3
)

if [[ $zip ]]; then
    [[ -f $zip ]] || fail 3 DATA "$zip: no such file"
    why=$(unpack "$zip") || case $? in
        5) fail 5 STORAGE "$texts: $why; fix: free some space" ;;
        *) fail 3 DATA "$zip: $why" ;;
    esac
else
    command -v curl >/dev/null || command -v wget >/dev/null ||
        fail 2 USAGE 'neither curl nor wget is on the PATH; fix: install one, or give --zip FILE'
    problems='' is_done=''
    for url in "${sources[@]}"; do
        name=$(shown "$url")
        echo "fetching $name"
        if why=$(fetch "$url" "$aside/download") && why=$(unpack "$aside/download"); then
            is_done=yes
            break
        elif (($? == 5)); then
            fail 5 STORAGE "$texts: $why; fix: free some space"
        fi
        echo "  $why"
        problems+="${problems:+; }$name: $why"
    done
    [[ $is_done ]] || fail 3 DATA "WikiText-2 cannot be fetched; $problems; fix: give --url URL or --zip FILE"
fi

for part in test valid train; do
    mv -f -- "$aside/$part.txt" "$texts/$part.txt" 2>/dev/null || fail 5 STORAGE "$texts: cannot be written to"
done
echo "WikiText-2 is in $texts"
