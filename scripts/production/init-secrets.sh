#!/bin/bash
# Makes the Docker secrets of the stack: generates what can be generated, takes from the operator what cannot. Makes only what is
# missing, so it may run again at any time. Values are never printed, never on a command line and in no file.
#
# Usage: init-secrets.sh [options]
#   --env-file FILE      settings (default: .env.prod beside README.md); an empty KAFKA_CLUSTER_ID is filled in there
#   --from-dir DIR       take the operator's values from files of DIR named like the secrets; else from variables named like them in
#                        capitals (STRIPE_SECRET_KEY), or <NAME>_FILE; else asked for when there is a terminal
#   --skip NAME          leave an optional secret out (its feature is off); may be repeated
#   --skip-optional      leave all optional secrets out that nobody gives
#   --allow-test-keys    accept Stripe's test keys
#   --rotate NAME        make the next version of NAME and of what is derived from it; deploy.sh rolls it out; may be repeated
#   --list               names, versions and ages, and what is missing
#   --dry-run            say what would be done
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
set +x
umask 077
# shellcheck source=scripts/production/lib/stack.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/stack.sh"

usage() { sed -n '/^# Usage:/,/^set /p' "${BASH_SOURCE[0]}" | sed '/^set /d; s/^# \{0,1\}//'; }

env_file=$stack_root/.env.prod from_dir='' dry_run='' list='' allow_test='' skip_optional=''
rotate=() skipped=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --env-file) env_file=${2:-}; shift 2 || die "$USAGE" "--env-file needs a file" ;;
        --from-dir) from_dir=${2:-}; shift 2 || die "$USAGE" "--from-dir needs a folder" ;;
        --rotate) rotate+=("${2:-}"); shift 2 || die "$USAGE" "--rotate needs a name" ;;
        --skip) skipped+=("${2:-}"); shift 2 || die "$USAGE" "--skip needs a name" ;;
        --skip-optional) skip_optional=yes; shift ;;
        --allow-test-keys) allow_test=yes; shift ;;
        --list) list=yes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        *) usage >&2; exit "$USAGE" ;;
    esac
done

# What an optional secret holds that was left out: the pods take a placeholder for "not configured".
PLACEHOLDER=placeholder-not-configured
OPTIONAL=' amadeus_api_key amadeus_api_secret duffel_api_token openweather_api_key openai_api_key sendgrid_api_key smtp_password slack_webhook_url pagerduty_routing_key '
ASKED="$OPTIONAL stripe_secret_key stripe_webhook_secret backup_external_s3_access_key backup_external_s3_secret_key "

# Secrets that only make sense together: all members are made in one go, the first one first.
GROUPS_OF_SECRETS=(
    'redis_password redis_exporter_passwords'
    'service_client_secret_business service_client_secret_experience service_clients'
    'grafana_admin_password traefik_users'
    's3_access_key s3_secret_key'
    'backup_s3_access_key backup_s3_secret_key'
    'backup_external_s3_access_key backup_external_s3_secret_key'
    'minio_root_user minio_root_password'
    'amadeus_api_key amadeus_api_secret'
)

group_of() {
    local group
    for group in "${GROUPS_OF_SECRETS[@]}"; do
        [[ " $group " == *" $1 "* ]] && { printf '%s' "$group"; return; }
    done
    printf '%s' "$1"
}

is_optional() { [[ $OPTIONAL == *" $1 "* ]]; }
is_asked() { [[ $ASKED == *" $1 "* ]]; }
# A pair is left out as a whole.
is_skipped() {
    local one
    for one in ${skipped[@]+"${skipped[@]}"}; do [[ " $(group_of "$1") " == *" $one "* ]] && return 0; done
    return 1
}

# -- Values. Each function leaves its value in the variable REPLY: a substitution or a pipe would be a process with it. --------

# The pods refuse what looks like the text of a template; one random value in a few hundred does, so those are drawn again.
looks_like_template() {
    case ${1,,} in *change* | *placeholder* | *your_* | *your-* | *example* | *xxx* | *'<'* | *todo*) return 0 ;; esac
    return 1
}

# random_text N [characters]: N random characters; 43 of [A-Za-z0-9] carry 256 bits.
random_text() {
    local length=$1 set=${2:-A-Za-z0-9} text=xxx
    while looks_like_template "$text"; do
        text=''
        while ((${#text} < length)); do
            text+=$(head -c 256 /dev/urandom | LC_ALL=C tr -dc "$set")
        done
        text=${text:0:length}
    done
    REPLY=$text
}

# 32 random bytes in base64url without padding. One in four has neither - nor _, and those are taken: no value of ours may break
# an address or a sed.
random_key() {
    REPLY=
    until [[ $REPLY =~ ^[A-Za-z0-9]{43}$ ]] && ! looks_like_template "$REPLY"; do
        REPLY=$(head -c 32 /dev/urandom | base64 | tr -d '=\n')
    done
}

# The line of a password file, bcrypt; the password comes by stdin, through perl's crypt (libxcrypt).
htpasswd_line() {
    local password=$1 salt
    random_text 21 './A-Za-z0-9'
    # the last character of a bcrypt salt carries two bits only; `u` is one of the four that may stand there
    salt=${REPLY}u
    REPLY=$(printf '%s' "$password" | SALT=$salt perl -e 'local $/; my $p = <STDIN>; my $h = crypt($p, "\$2y\$10\$$ENV{SALT}"); print $h if defined $h')
    [[ $REPLY =~ ^\$2y\$10\$.{53}$ ]] || die "$PREREQUISITE" "this machine cannot hash with bcrypt (perl with libxcrypt)"
    REPLY=admin:$REPLY
}

declare -A made=()

generate() {
    local name=$1 service
    case $name in
        db_url_*)
            service=${name#db_url_}
            random_text 43
            REPLY="postgres://${service}_service:$REPLY@postgres-rw:5432/${DB_NAME:-dreamscape_prod}"
            ;;
        jwt_signing_key) random_key ;;
        data_encryption_key)
            random_key
            if [ -n "${previous_data_key:-}" ]; then REPLY="$REPLY,$previous_data_key"; fi
            ;;
        redis_exporter_passwords)
            local node json=''
            for node in 1 2 3 4 5 6; do json+="${json:+,}\"redis://redis-$node:6379\":\"${made[redis_password]}\""; done
            REPLY="{$json}"
            ;;
        service_clients)
            REPLY="business-pod=${made[service_client_secret_business]},experience-pod=${made[service_client_secret_experience]}"
            ;;
        traefik_users) htpasswd_line "${made[grafana_admin_password]}" ;;
        s3_access_key | backup_s3_access_key | minio_root_user) random_text 20 'A-Z0-9' ;;
        s3_secret_key | backup_s3_secret_key | minio_root_password) random_text 43 ;;
        *) random_text 43 ;;
    esac
    made[$name]=$REPLY
}

# What is wrong with a value that somebody gave; nothing if it is good. The value itself is never repeated.
complaint() {
    local name=$1 value=$2
    case $value in '') echo "is empty"; return ;; *[[:space:]]*) echo "holds white space"; return ;; esac
    if looks_like_template "$value"; then
        echo "is still the text of a template"
        return
    fi
    case $name in
        stripe_secret_key)
            if [[ $value =~ ^(sk|rk)_test_[A-Za-z0-9]+$ ]]; then
                [ -n "$allow_test" ] || echo "is a test key; give --allow-test-keys if that is meant"
            else
                [[ $value =~ ^(sk|rk)_live_[A-Za-z0-9]{8,}$ ]] || echo "is no key of Stripe's (sk_live_…)"
            fi
            ;;
        stripe_webhook_secret) [[ $value =~ ^whsec_[A-Za-z0-9+/=]{8,}$ ]] || echo "is no signing secret of Stripe's (whsec_…)" ;;
        slack_webhook_url) [[ $value == https://* ]] || echo "is no https address" ;;
    esac
}

# Takes a value from the operator.
take() {
    local name=$1 upper=${1^^} file=''
    REPLY=
    if [ -n "$from_dir" ] && [ -e "$from_dir/$name" ]; then
        file=$from_dir/$name
    else
        local by_file=${upper}_FILE
        if [ -n "${!upper:-}" ]; then
            REPLY=${!upper}
        elif [ -n "${!by_file:-}" ]; then
            file=${!by_file}
        fi
    fi
    if [ -n "$file" ]; then
        [ -r "$file" ] || die "$PREREQUISITE" "$name: $file cannot be read"
        REPLY=$(<"$file")
    fi
    if [ -z "$REPLY" ] && [ -t 0 ] && ! is_skipped "$name" && [ -z "$skip_optional" ]; then
        printf '%s%s: ' "$name" "$(is_optional "$name" && echo ' (empty: leave out)')" >/dev/tty
        IFS= read -rs REPLY </dev/tty
        printf '\n' >/dev/tty
        if [ -z "$REPLY" ] && is_optional "$name"; then skipped+=("$name"); fi
    fi
    if [ -z "$REPLY" ] && is_optional "$name" && { is_skipped "$name" || [ -n "$skip_optional" ]; }; then
        REPLY=$PLACEHOLDER
        [ "$name" != slack_webhook_url ] || REPLY=https://placeholder-not-configured.invalid/
        made[$name]=$REPLY
        return
    fi
    local wrong hint=''
    # in a subshell the value is not on a command line: functions are no programs
    wrong=$(complaint "$name" "$REPLY")
    if [ -n "$wrong" ]; then
        if is_optional "$name" && [ -z "$REPLY" ]; then hint=" (--skip $name leaves it out)"; fi
        problems+=("$name $wrong$hint")
        return
    fi
    made[$name]=$REPLY
}

# -- The Swarm -----------------------------------------------------------------------------------------------------------

create() {
    local name=$1 version=$2
    if [ -n "$dry_run" ]; then
        note "would make dreamscape_${name}_v$version"
        return
    fi
    # printf is the shell's own: the value goes through a pipe and is on no command line
    printf '%s' "${made[$name]}" |
        docker secret create --label dreamscape.managed=true "dreamscape_${name}_v$version" - >/dev/null ||
        die "$FAILED" "dreamscape_${name}_v$version could not be made"
    note "made dreamscape_${name}_v$version"
}

# What the operator exported is for this script, not for the environment of the programs that it starts.
for name in $ASKED; do export -n "${name^^}"; done

need_docker
need_manager
# settings are welcome, not needed: --list and tests work without them
if [ -f "$env_file" ]; then load_settings "$env_file"; fi
mapfile -t keys < <(secret_keys)
read_versions "$(existing_secrets)"
first=${SECRETS_VERSION:-v1}
first=${first#v}
[[ $first =~ ^[0-9]+$ ]] || die "$USAGE" "SECRETS_VERSION is v and a number"

if [ -n "$list" ]; then
    declare -A ages=()
    while IFS=$'\t' read -r name age; do ages[$name]=$age; done < <(docker secret ls --format '{{.Name}}\t{{.CreatedAt}}' | grep '^dreamscape_' || true)
    for key in "${keys[@]}"; do
        version=${newest[$key]:-}
        if [ -n "$version" ]; then
            printf '%-34s v%-4s %s\n' "$key" "$version" "${ages[dreamscape_${key}_v$version]:-}"
        else
            printf '%-34s %s\n' "$key" missing
        fi
    done
    exit 0
fi

for name in "${rotate[@]+"${rotate[@]}"}" "${skipped[@]+"${skipped[@]}"}"; do
    [[ " ${keys[*]} " == *" $name "* ]] || die "$USAGE" "there is no secret $name; --list names them"
done
for name in ${skipped[@]+"${skipped[@]}"}; do
    is_optional "$name" || die "$USAGE" "$name is not optional"
done

declare -A wanted=() # name → version to make
problems=()
for name in ${rotate[@]+"${rotate[@]}"}; do
    if [ "$name" = jwt_signing_key ]; then
        die "$USAGE" "the keys of tokens rotate in the database, so that old tokens stay valid: docker exec <a core-pod container> /core-pod keys rotate"
    fi
    for member in $(group_of "$name"); do wanted[$member]=rotate; done
done
for key in "${keys[@]}"; do
    [ -n "${newest[$key]:-}" ] || for member in $(group_of "$key"); do wanted[$member]=${wanted[$member]:-missing}; done
done

if [ "${#wanted[@]}" -eq 0 ]; then
    say "all ${#keys[@]} secrets are there; --rotate NAME makes a new version, --list shows their ages"
fi

# The new key seals, the old one still opens: it is read from a running core pod, or given as data_encryption_key.previous.
if [ "${wanted[data_encryption_key]:-}" = rotate ]; then
    previous_data_key=
    if [ -n "$from_dir" ] && [ -r "$from_dir/data_encryption_key.previous" ]; then
        previous_data_key=$(<"$from_dir/data_encryption_key.previous")
    else
        container=$(docker ps -q --filter "label=com.docker.swarm.service.name=${stack:-dreamscape}_core-pod" | head -n 1)
        [ -z "$container" ] || previous_data_key=$(docker exec "$container" cat /run/secrets/data_encryption_key 2>/dev/null || true)
    fi
    [ -n "$previous_data_key" ] ||
        die "$PREREQUISITE" "the present data_encryption_key is needed, or nothing sealed with it opens again: run this where a core-pod container runs, or put it into DIR/data_encryption_key.previous"
fi

# In the order of the stack file, first members of groups first, so that what is derived finds its source.
ordered=()
for key in "${keys[@]}"; do
    [ -n "${wanted[$key]:-}" ] || continue
    for member in $(group_of "$key"); do
        [[ " ${ordered[*]-} " == *" $member "* ]] || ordered+=("$member")
    done
done
for name in ${ordered[@]+"${ordered[@]}"}; do
    if is_asked "$name"; then take "$name"; else generate "$name"; fi
done
if [ "${#problems[@]}" -gt 0 ]; then
    printf 'error: nothing was made, because\n' >&2
    printf '  - %s\n' "${problems[@]}" >&2
    exit "$FAILED"
fi
for name in ${ordered[@]+"${ordered[@]}"}; do
    version=${newest[$name]:-0}
    create "$name" "$((version ? version + 1 : first))"
done

# Not a secret, but as stable: the id of the Kafka cluster.
if [ -f "$env_file" ] && [ -z "${KAFKA_CLUSTER_ID:-}" ] && grep -q '^KAFKA_CLUSTER_ID=' "$env_file"; then
    REPLY=-
    while [[ $REPLY == -* ]]; do REPLY=$(head -c 16 /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_'); done
    if [ -n "$dry_run" ]; then
        note "would write a fresh KAFKA_CLUSTER_ID into $(basename "$env_file")"
    else
        sed -i "s/^KAFKA_CLUSTER_ID=.*/KAFKA_CLUSTER_ID=\"$REPLY\"/" "$env_file"
        note "wrote a fresh KAFKA_CLUSTER_ID into $(basename "$env_file")"
    fi
fi
[ -n "$dry_run" ] || say "done; roll new versions out with scripts/production/deploy.sh"
