#!/bin/bash
# A real S3 store of one node on loopback, for tests: Ceph's monitor, one OSD in memory, and its gateway (RGW).
# Debian: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
# usage: ceph.sh start FOLDER PORT KEY SECRET | stop FOLDER
set -e
command=$1 folder=$2 port=$3 key=$4 secret=$5
export CEPH_CONF=$folder/ceph.conf
stop() {
    for name in rgw osd mon; do
        if [ -f "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2>/dev/null || true; fi
    done
}
if [ "$command" = stop ]; then
    stop
    exit 0
fi
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
v2=$(free_port) v1=$(free_port)
mkdir -p "$folder/mon" "$folder/osd" "$folder/rgw"
fsid=$(cat /proc/sys/kernel/random/uuid)
cat > "$CEPH_CONF" <<C
[global]
fsid=$fsid
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
mon_initial_members=a
mon_host=[v2:127.0.0.1:$v2/0,v1:127.0.0.1:$v1/0]
public_addr=127.0.0.1
cluster_addr=127.0.0.1
ms_bind_ipv4=true
# Without authentication there is no key to encrypt with.
ms_mon_client_mode=crc
ms_client_mode=crc
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=8
osd_pool_default_pgp_num=8
osd_pool_default_pg_autoscale_mode=off
mon_allow_pool_size_one=true
mon_max_pg_per_osd=1000
osd_crush_chooseleaf_type=0
mon_warn_on_pool_no_redundancy=false
mon_data_avail_crit=1
mon_data_avail_warn=2
log_to_file=false
mon_cluster_log_to_file=false
run_dir=$folder
admin_socket=$folder/\$name.asok
mon_data=$folder/mon
osd_data=$folder/osd
osd_objectstore=memstore
memstore_device_bytes=2147483648
[client.rgw]
rgw_data=$folder/rgw
rgw_frontends=beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_dns_name=localhost
rgw_thread_pool_size=64
rgw_enable_ops_log=false
C
trap 'stop; exit 1' ERR
monmaptool --create --clobber --addv a "[v2:127.0.0.1:$v2,v1:127.0.0.1:$v1]" --fsid "$fsid" "$folder/monmap" >/dev/null
ceph-mon -i a --mkfs --monmap "$folder/monmap" >"$folder/mon.log" 2>&1
setsid ceph-mon -i a -f >>"$folder/mon.log" 2>&1 & echo $! >"$folder/mon.pid"
for _ in $(seq 100); do if timeout 5 ceph -s >/dev/null 2>&1; then break; fi; sleep .2; done
uuid=$(cat /proc/sys/kernel/random/uuid)
id=$(ceph osd new "$uuid")
ceph-osd -i "$id" --mkfs --osd-uuid "$uuid" >"$folder/osd.log" 2>&1
setsid ceph-osd -i "$id" -f >>"$folder/osd.log" 2>&1 & echo $! >"$folder/osd.pid"
for _ in $(seq 100); do if ceph osd stat 2>/dev/null | grep -q '1 up'; then break; fi; sleep .2; done
setsid radosgw -n client.rgw -f >"$folder/rgw.log" 2>&1 & echo $! >"$folder/rgw.pid"
for _ in $(seq 1200); do if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi; sleep .1; done
radosgw-admin user create --uid=varstar --display-name=varstar --access-key="$key" --secret-key="$secret" \
    >"$folder/user.json" 2>>"$folder/rgw.log"
