# Sourced first: the rest of the script runs inside network, mount and process namespaces of its own,
# where it may cut links, and which leave nothing behind. Who has not said otherwise dials from
# 127.0.1.1, so that a cut between nodes (127.0.0.I) is no cut of clients. Needs no root.
if [ -z "${KVD_NAMESPACE:-}" ]; then
    for tool in unshare ip nft jq; do
        command -v $tool >/dev/null || PATH=$PATH:/usr/sbin:/sbin
        command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
    done
    ns='unshare -rnm --pid --fork --kill-child --mount-proc'
    $ns sh -c 'ip link set lo up && nft add table inet t' 2>/dev/null || {
        echo "skipped: namespaces or nftables are not allowed here"
        exit 0
    }
    KVD_NAMESPACE=1
    export KVD_NAMESPACE PATH
    exec $ns sh "$0" "$@"
fi
ip link set lo up && ip route replace table local local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.1.1 || exit 1
cut() { # ADDRESS PEERS: silence between them, both ways, no reset; PEERS: 127.0.0.1,127.0.0.3
    cut_rules "ip saddr $1 ip daddr { $2 }" "ip daddr $1 ip saddr { $2 }"
}
cut_one_way() { # FROM TO
    cut_rules "ip saddr $1 ip daddr { $2 }"
}
cut_rules() {
    {
        printf 'table inet cut {\n counter dropped { }\n counter dials { }\n chain out {\n type filter hook output priority 0\n'
        for rule in "$@"; do
            echo "$rule tcp flags & (syn | ack) == syn counter name dials"
            echo "$rule counter name dropped drop"
        done
        printf '}\n}\n'
    } | nft -f - || die "nft"
}
heal() { nft delete table inet cut || die "nft"; }
counted() { nft -j list counter inet cut "$1" | jq '.nftables[].counter? | select(.) | .packets'; }
dropped() { counted dropped; }
dials() { counted dials; } # attempts to connect, among the dropped
