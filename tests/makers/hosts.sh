#!/bin/bash
# Several hosts on one machine: network namespaces on one bridge, addresses 10.77.0.10 and up. Needs root and iproute2.
# usage: hosts.sh up N | cut I | heal I | down N      (hosts 0 to N)
set -e
case $1 in
up)
    ip netns add vsbr
    ip -n vsbr link add br0 type bridge
    ip -n vsbr link set br0 up
    ip -n vsbr link set lo up
    for i in $(seq 0 "$2"); do
        ip netns add "vsh$i"
        ip link add "ve$i" netns "vsh$i" type veth peer name "pe$i" netns vsbr
        ip -n vsbr link set "pe$i" master br0 up
        ip -n "vsh$i" addr add "10.77.0.$((10 + i))/24" dev "ve$i"
        ip -n "vsh$i" link set "ve$i" up
        ip -n "vsh$i" link set lo up
    done
    ;;
cut) ip -n vsbr link set "pe$2" down ;;
heal) ip -n vsbr link set "pe$2" up ;;
down)
    for i in $(seq 0 "$2"); do ip netns del "vsh$i" 2>/dev/null || true; done
    ip netns del vsbr 2>/dev/null || true
    ;;
esac
