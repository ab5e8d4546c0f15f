# shellcheck shell=bash disable=SC2154
# Where the container of a service is: on this machine, or on its node over ssh. Sourced; `stack` is the name of the stack.
engine=() container=''
# container_of SERVICE: fills `container`, and `engine` with the arguments of docker that reach it; fails when it runs nowhere.
container_of() {
    local node filter="label=com.docker.swarm.service.name=${stack}_$1"
    engine=()
    container=$(docker ps -q --filter "$filter" | head -1)
    [ -z "$container" ] || return 0
    node=$(docker service ps --filter desired-state=running --format '{{.Node}}' "${stack}_$1" 2>/dev/null | head -1)
    [ -n "$node" ] || return 1
    engine=(-H "ssh://$node")
    container=$(docker "${engine[@]}" ps -q --filter "$filter" 2>/dev/null | head -1)
    [ -n "$container" ]
}
