#!/usr/bin/env bash
# Encrypts or decrypts standard input with the key of the backups. OpenPGP (RFC 4880): AES-256 with an integrity check, so a changed
# byte or a missing end is an error; any gpg opens it without us. The key has 32 random bytes, so stretching it would only cost time.
# Usage: crypt.sh encrypt|decrypt <INPUT >OUTPUT      (BACKUP_ENCRYPTION_KEY_FILE)
set -euo pipefail
key=${BACKUP_ENCRYPTION_KEY_FILE:?the file with the key of the backups}
[ -s "$key" ] || { echo "crypt: $key is missing or empty" >&2; exit 3; }
# gpg wants its agent even where it asks nobody; one per run of backup.sh is enough.
home=${BACKUP_GNUPGHOME:-}
if [ -z "$home" ]; then
    home=$(mktemp -d "${TMPDIR:-/tmp}/gpg.XXXXXX")
    trap 'gpgconf --homedir "$home" --kill all 2>/dev/null; rm -rf "$home"' EXIT
fi
gpg=(gpg --batch --quiet --no-tty --no-options --homedir "$home" --no-symkey-cache --pinentry-mode loopback --passphrase-file "$key")
case ${1:-} in
    encrypt)
        "${gpg[@]}" --rfc4880 --cipher-algo AES256 --s2k-mode 3 --s2k-count 1024 --s2k-digest-algo SHA256 --compress-algo none \
            --symmetric --output - ;;
    decrypt) "${gpg[@]}" --decrypt --output - ;;
    *) echo "Usage: crypt.sh encrypt|decrypt" >&2; exit 2 ;;
esac
