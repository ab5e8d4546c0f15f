#!/bin/bash
# Makes the PostgreSQL standby the primary, after the old primary is fenced off; or brings a former primary back as standby.
# contract: operations §6.7, P-38
set -euo pipefail
# shellcheck source=scripts/production/lib/containers.sh
. "$(dirname "$(readlink -f "$0")")/lib/containers.sh"

usage() {
    cat <<'TEXT'
Usage: promote-standby.sh [--stack NAME] [--env-file FILE] [--dry-run] [--yes] [--old-node-is-dead] [--max-lag BYTES] [--rejoin]

Promotes the standby of the stack. In this order, and stopping at the first step that fails:
  1 look      which node is declared primary, whether the other one is a standby that has data, how far it is behind
  2 fence     scale the old primary to 0 and wait until its last task has ended; its shutdown sends the standby all it has
  3 catch up  wait until the standby has applied everything it received
  4 move      the network alias postgres-rw and PG_PRIMARY_SERVICE go to the standby (it restarts, still read-only)
  5 promote   pg_promote, a checkpoint (pg_rewind needs one), and a look whether it takes writes
  6 remember  PG_PRIMARY_SERVICE, PG_PRIMARY_ALIAS and PG_REPLICA_ALIAS in the env file, so that the next deploy agrees

  --rejoin             afterwards: start the old primary again; it rewinds and follows. Alone if the promotion is done already
  --old-node-is-dead   the old primary's machine does not answer and will not come back by itself: do not wait for its task to end
  --max-lag BYTES      refuse if the standby is further behind than this (16777216) while the primary can still be asked
  --stack NAME         the stack (dreamscape)
  --env-file FILE      the settings of the stack (.env.prod), changed in place; a copy is kept beside it
  --timeout SECONDS    for each wait (120)
  --dry-run            steps 1 only, then say what would be done
  --yes                do not ask; needed where standard input is no terminal
Exit code: 0 done, 1 failed, 2 usage, 3 a prerequisite is missing.
TEXT
}

stack=dreamscape env_file=.env.prod dry_run='' yes='' dead='' rejoin='' max_lag=16777216 timeout=120
while [ $# -gt 0 ]; do
    case $1 in
        --stack) stack=${2:?}; shift ;;
        --env-file) env_file=${2:?}; shift ;;
        --max-lag) max_lag=${2:?}; shift ;;
        --timeout) timeout=${2:?}; shift ;;
        --dry-run) dry_run=yes ;;
        --yes) yes=yes ;;
        --old-node-is-dead) dead=yes ;;
        --rejoin) rejoin=yes ;;
        --help | -h) usage; exit 0 ;;
        *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"; }
die() { echo "promote-standby: $*" >&2; exit "${code:-1}"; }

command -v docker >/dev/null || code=3 die "there is no docker command"
[ "$(docker info -f '{{.Swarm.ControlAvailable}}' 2>/dev/null)" = true ] || code=3 die "this is no manager of a Swarm"
network=${stack}_database-network

service_env() { # SERVICE NAME
    docker service inspect --format '{{range .Spec.TaskTemplate.ContainerSpec.Env}}{{println .}}{{end}}' "${stack}_$1" |
        sed -n "s/^$2=//p" | tail -1
}
sql() { # SERVICE STATEMENT
    container_of "$1" && docker "${engine[@]}" exec "$container" psql -qAtX -v ON_ERROR_STOP=1 -U postgres -d postgres -c "$2"
}
wait_until() { # TEXT COMMAND...
    local text=$1 deadline=$((SECONDS + timeout))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || die "not within $timeout s: $text"
        sleep 0.5
    done
}
is_standby() { [ "$(sql "$1" 'select pg_is_in_recovery()' 2>/dev/null)" = t ]; }
is_primary() { [ "$(sql "$1" 'select pg_is_in_recovery()' 2>/dev/null)" = f ]; }
has_no_task() { [ -z "$(docker service ps --filter desired-state=running -q "${stack}_$1")" ] && ! container_running "$1"; }
container_running() { [ -n "$(docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1")" ]; }

declared=$(service_env postgres-primary PG_PRIMARY_SERVICE) || die "there is no service ${stack}_postgres-primary"
declared=${declared:-postgres-primary}
case $declared in
    postgres-primary) other=postgres-replica ;;
    postgres-replica) other=postgres-primary ;;
    *) die "PG_PRIMARY_SERVICE is $declared, which is neither node" ;;
esac

bring_back() { # OLD NEW
    say "rejoin: starting $1, which rewinds to where it parted from $2 and follows"
    docker service scale --detach "${stack}_$1=1" >/dev/null
    follows() { [ "$(sql "$2" "select count(*) from pg_stat_replication where application_name = '$1' and state = 'streaming'" 2>/dev/null)" = 1 ]; }
    wait_until "$1 streams from $2" follows "$1" "$2"
    say "rejoin: $1 is a standby of $2"
}

# Whether an earlier run got as far as the promotion: then only the rejoin is left.
if [ -n "$rejoin" ] && is_primary "$declared" && ! container_running "$other" && has_no_task "$other"; then
    [ -z "$dry_run" ] || { say "would start $other as standby of $declared"; exit 0; }
    bring_back "$other" "$declared"
    exit 0
fi

# -- 1 look
old=$declared new=$other
is_standby "$new" || die "$new is not a running standby; nothing was changed"
received=$(sql "$new" 'select pg_last_wal_receive_lsn()')
[ -n "$received" ] || received=$(sql "$new" 'select pg_last_wal_replay_lsn()')
say "look: $old is declared primary, $new is a standby and has received $received"
if is_primary "$old"; then
    lag=$(sql "$old" "select greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), '$received'))::bigint")
    say "look: $old answers; the standby is $lag bytes behind"
    [ "$lag" -le "$max_lag" ] || die "the standby is $lag bytes behind, more than $max_lag; nothing was changed"
else
    say "look: $old does not answer; what it had not sent yet is lost to the new primary"
fi
if [ -n "$dry_run" ]; then
    say "would fence $old, move postgres-rw to $new, promote $new, and note it in $env_file"
    exit 0
fi
if [ -z "$yes" ]; then
    [ -t 0 ] || code=2 die "standard input is no terminal; say --yes"
    read -r -p "Promote $new and fence $old? [y/N] " answer
    [ "$answer" = y ] || die "not done"
fi

# -- 2 fence
say "fence: stopping $old"
docker service scale --detach "${stack}_$old=0" >/dev/null
if [ -n "$dead" ]; then
    container_running "$old" && die "--old-node-is-dead, but a container of $old runs on this machine"
    say "fence: not waiting for the task of $old, as told; keep that machine away until it can rejoin"
else
    wait_until "the last task of $old has ended (--old-node-is-dead if its machine is gone)" has_no_task "$old"
    say "fence: $old is stopped"
fi

# -- 3 catch up
caught_up() { [ "$(sql "$new" "select coalesce(pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn(), true)" 2>/dev/null)" = t ]; }
wait_until "$new has applied what it received" caught_up
say "catch up: $new has applied everything up to $(sql "$new" 'select pg_last_wal_replay_lsn()')"

# -- 4 move
# Not waiting for the engine, which watches a new task for a minute before it says that all is well. The name of the service itself is
# an alias too, which an update drops with the others; in the order in which the stack file gives them, so that the next deploy finds
# nothing to change.
say "move: postgres-rw goes to $new"
docker service update --detach --env-add "PG_PRIMARY_SERVICE=$new" --network-rm "$network" \
    --network-add "name=$network,alias=postgres-rw,alias=$new" "${stack}_$new" >/dev/null
docker service update --detach --env-add "PG_PRIMARY_SERVICE=$new" --network-rm "$network" \
    --network-add "name=$network,alias=postgres-ro,alias=$old" "${stack}_$old" >/dev/null
moved() { # the new task, not the one that is about to stop
    container_of "$1" && [ "$(docker "${engine[@]}" exec "$container" printenv PG_PRIMARY_SERVICE 2>/dev/null)" = "$1" ] && is_standby "$1"
}
wait_until "$new is back after its restart" moved "$new"

# -- 5 promote
say "promote: $new"
[ "$(sql "$new" 'select pg_promote(true, 60)')" = t ] || die "pg_promote did not finish; $old is stopped and stays so. Look at the log of $new, then run this again"
sql "$new" 'checkpoint' >/dev/null
is_primary "$new" || die "$new is still in recovery"
sql "$new" 'create temporary table promoted (n int); insert into promoted values (1)' >/dev/null
timeline=$(sql "$new" 'select timeline_id from pg_control_checkpoint()')
say "promote: $new takes writes, on timeline $timeline"

# -- 6 remember
if [ "$new" = postgres-replica ]; then primary_alias=postgres-ro replica_alias=postgres-rw; else primary_alias=postgres-rw replica_alias=postgres-ro; fi
remember() { # NAME VALUE
    if grep -q "^$1=" "$env_file"; then
        sed -i "s|^$1=.*|$1=$2|" "$env_file"
    else
        printf '%s=%s\n' "$1" "$2" >>"$env_file"
    fi
}
if [ -w "$env_file" ]; then
    cp -p "$env_file" "$env_file.before-promotion"
    remember PG_PRIMARY_SERVICE "$new"
    remember PG_PRIMARY_ALIAS "$primary_alias"
    remember PG_REPLICA_ALIAS "$replica_alias"
    say "remember: noted in $env_file"
else
    say "remember: $env_file cannot be written. Put this into the settings of the stack before the next deploy:"
    printf 'PG_PRIMARY_SERVICE=%s\nPG_PRIMARY_ALIAS=%s\nPG_REPLICA_ALIAS=%s\n' "$new" "$primary_alias" "$replica_alias"
fi

if [ -n "$rejoin" ]; then
    bring_back "$old" "$new"
else
    say "done. $old is stopped; bring it back as standby with: promote-standby.sh --rejoin"
fi
