# From network_data.json, flattened by json.awk, to what the guest has to do, a line each:
#   mtu MAC BYTES           dhcp MAC
#   address MAC IP/MASK     route MAC NETWORK/MASK GATEWAY     (a default route's network is 0.0.0.0/0.0.0.0 or ::/::)
#   dns ADDRESS

BEGIN { FS = "\t" }

{ fact[$1] = $2 }

END {
    for (i = 0; (path = ".links[" i "]") ".id" in fact; i++) {
        mac = tolower(fact[path ".ethernet_mac_address"])
        macs[fact[path ".id"]] = mac
        if (fact[path ".mtu"] != "") print "mtu", mac, fact[path ".mtu"]
    }
    for (i = 0; (path = ".networks[" i "]") ".link" in fact; i++) {
        mac = macs[fact[path ".link"]]
        kind = fact[path ".type"]
        if (mac == "") continue
        if (kind == "ipv4_dhcp") print "dhcp", mac
        if (kind != "ipv4" && kind != "ipv6") continue
        print "address", mac, with(fact[path ".ip_address"], fact[path ".netmask"])
        if (fact[path ".gateway"] != "") print "route", mac, kind == "ipv4" ? "0.0.0.0/0.0.0.0" : "::/::", fact[path ".gateway"]
        for (j = 0; (way = path ".routes[" j "]") ".gateway" in fact; j++)
            print "route", mac, with(fact[way ".network"], fact[way ".netmask"]), fact[way ".gateway"]
        servers(path)
    }
    servers("")
}

function with(address, mask) { return index(address, "/") || mask == "" ? address : address "/" mask }

function servers(path,   k, here) {
    for (k = 0; (here = path ".services[" k "]") ".type" in fact; k++)
        if (fact[here ".type"] == "dns" && !told[fact[here ".address"]]++) print "dns", fact[here ".address"]
}
