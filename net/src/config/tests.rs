use super::*;
use crate::device::MacAddress;
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;

const DOCUMENTED: &str = include_str!("demikernel.toml");

fn error(text: &str) -> String {
    text.parse::<NetConfig>().unwrap_err().to_string()
}

fn parsed(text: &str) -> NetConfig {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_documented_file_holds_exactly_the_defaults() {
    assert_eq!(parsed(DOCUMENTED), NetConfig::default());
    assert_eq!(parsed(""), NetConfig::default());
    NetConfig::default().validate().unwrap();
}

/// The keys that a section has, as the error about one that it has not names them.
fn keys_of(section: &str) -> Vec<String> {
    let message = error(&format!("[{section}]\nno-such-key = 1\n"));
    let (_, list) = message.split_once("one of ").or_else(|| message.split_once("expected ")).unwrap();
    list.split(" or ").flat_map(|part| part.split(", ")).map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_key_is_documented_in_its_section() {
    for section in ["network", "dpdk", "xdp", "tcp", "tcp.keepalive", "udp", "limits", "capture", "faults"] {
        let (_, text) = DOCUMENTED.split_once(&format!("[{section}]\n")).unwrap();
        let text = text.split_once("\n[").map_or(text, |(text, _)| text);
        let keys = keys_of(section);
        assert!(!keys.is_empty() && keys.iter().all(|key| !key.is_empty()), "{section}: {keys:?}");
        for key in keys.iter().filter(|key| *key != "keepalive") {
            let lines = || text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
            let line = lines().find(|line| line.starts_with(&format!("{key} = ")));
            let line = line.unwrap_or_else(|| panic!("[{section}] {key} is not documented"));
            parsed(&format!("[{section}]\n{line}\n"));
        }
    }
    let sections = error("[no-such-section]");
    assert!(
        sections.starts_with(
            "line 1: no-such-section: found a key that there is not, expected one of `network`, "
        )
    );
}

#[test]
fn a_file_says_all_that_a_program_can() {
    let config = parsed(
        r#"
        [network]
        device = "packet"
        interface = "eth0"
        mac = "02:00:00:00:00:0a"
        addresses = ["10.0.0.2/24", "fd00::2/64"]
        gateways = ["10.0.0.1", "fe80::1"]
        routes = [{ to = "10.1.0.0/16", via = "10.0.0.9", metric = 3 }, { to = "fd01::/48" }]
        mtu = 9000
        [tcp]
        congestion-control = "bbr"
        min-rto = "5 ms"
        ecn = "request"
        receive-buffer = { initial = "64KiB", maximum = "1GiB" }
        user-timeout = "5min"
        keepalive = { enabled = true, idle = "1min" }
        [limits]
        half-open = 16
        [capture]
        file = "out.pcapng"
        [faults]
        seed = 7
        drop = 0.01
        reorder = 1
        reorder-delay = "3ms"
        "#,
    );
    let mut expected = NetConfig::default();
    let cidr = |text: &str| text.parse::<Cidr>().unwrap();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    expected.network = NetworkConfig {
        device: Device::Packet,
        interface: "eth0".to_owned(),
        mac: Some(MacAddress([2, 0, 0, 0, 0, 10])),
        addresses: ["10.0.0.2/24", "fd00::2/64"].map(|text| Addressing::Static(cidr(text))).to_vec(),
        gateways: ["10.0.0.1", "fe80::1"].map(address).to_vec(),
        routes: vec![
            RouteConfig { to: cidr("10.1.0.0/16"), via: Some(address("10.0.0.9")), metric: 3 },
            RouteConfig { to: cidr("fd01::/48"), via: None, metric: 0 },
        ],
        mtu: Some(9000),
        ..NetworkConfig::default()
    };
    expected.tcp = TcpConfig {
        congestion_control: CongestionControl::Bbr,
        min_rto: Duration::from_millis(5),
        ecn: Ecn::Request,
        receive_buffer: BufferSizes { initial: 1 << 16, maximum: 1 << 30 },
        user_timeout: Some(Duration::from_secs(300)),
        keepalive: KeepaliveConfig {
            enabled: true,
            idle: Duration::from_secs(60),
            ..KeepaliveConfig::default()
        },
        ..TcpConfig::default()
    };
    expected.limits.half_open = 16;
    expected.capture.file = Some("out.pcapng".into());
    expected.faults = FaultsConfig {
        seed: 7,
        drop: 0.01,
        reorder: 1.0,
        reorder_delay: Duration::from_millis(3),
        ..FaultsConfig::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn one_address_needs_no_brackets() {
    assert_eq!(parsed("network.addresses = \"dhcp\"").network.addresses, [Addressing::Dhcp]);
    assert_eq!(parsed("network.addresses = []").network.addresses, []);
}

/// Checks lists of a section, what it says, and the error behind the place.
fn refused(section: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let error = error(&format!("# A comment.\n[{section}]\n{text}\n"));
        assert_eq!(error.strip_prefix("line 3: "), Some(*expected), "{text}: {error}");
    }
}

#[test]
fn wrong_types_and_keys_are_refused_with_what_was_found_and_expected() {
    refused(
        "udp",
        &[
            (
                "recieve-buffer = 1",
                "udp.recieve-buffer: found a key that there is not, \
                 expected `receive-buffer`",
            ),
            (
                "receive-buffer = -1",
                "udp.receive-buffer: found integer `-1`, expected bytes, less than 4 GiB, such as 65536 or \"64KiB\"",
            ),
            (
                "receive-buffer = \"4GiB\"",
                "udp.receive-buffer: found string \"4GiB\", expected bytes, less than 4 GiB, such as 65536 or \"64KiB\"",
            ),
        ],
    );
}

#[test]
fn wrong_values_of_queues_are_refused() {
    refused("network", &[("vlan = 4095", "network.vlan: found 4095, expected a value from 1 to 4094")]);
    refused("dpdk", &[("queues = 0", "dpdk.queues: found 0, expected a value from 1 to 64")]);
    let config = parsed("[network]\nvlan = 7\n[dpdk]\nqueues = 2\n");
    assert_eq!((config.network.vlan, config.dpdk.queues), (Some(7), Some(2)));
    refused(
        "xdp",
        &[
            ("queues = []", "xdp.queues: found 0 queues, expected 1 to 64"),
            ("queues = [0, 3, 0]", "xdp.queues[2]: found 0 again, expected each queue once"),
            ("queues = [1024]", "xdp.queues[0]: found 1024, expected a value from 0 to 1023"),
            (
                "mode = \"fast\"",
                "xdp.mode: found string \"fast\", expected \"auto\", \"zero-copy\" or \"copy\"",
            ),
            ("receive-ring = 100", "xdp.receive-ring: found 100, expected a power of two"),
            ("transmit-ring = 32", "xdp.transmit-ring: found 32, expected a value from 64 to 65536"),
            ("memory = 4096", "xdp.memory: found 4096, expected a value from 1048576 to 1073741824"),
        ],
    );
    let config =
        parsed("[xdp]\nqueues = [1, 0]\nmode = \"zero-copy\"\nmemory = \"64MiB\"\nneed-wakeup = false\n");
    let expected = XdpConfig {
        queues: vec![1, 0],
        mode: XdpMode::ZeroCopy,
        memory: 64 << 20,
        need_wakeup: false,
        ..XdpConfig::default()
    };
    assert_eq!(config.xdp, expected);
}

#[test]
fn wrong_values_of_the_network_are_refused() {
    refused(
        "network",
        &[
            (
                "device = \"tun\"",
                "network.device: found string \"tun\", expected \"tap\", \"packet\", \"dpdk\" or \"xdp\"",
            ),
            (
                "device = 7",
                "network.device: found integer `7`, expected \"tap\", \"packet\", \"dpdk\" or \"xdp\"",
            ),
            ("interface = 0", "network.interface: found integer `0`, expected a string"),
            (
                "hop-limit = 256",
                "network.hop-limit: found integer `256`, expected a whole number from 0 to 255",
            ),
            ("mtu = \"big\"", "network.mtu: found string \"big\", expected a whole number from 0 to 65535"),
            ("ephemeral-ports = [1]", "network.ephemeral-ports: found length 1, expected a list of two"),
            ("offload = 1", "network.offload: found integer `1`, expected true or false"),
            (
                "mac = \"02:00:00:00:00\"",
                "network.mac: found string \"02:00:00:00:00\", \
                 expected an Ethernet address, such as \"02:00:00:00:00:01\"",
            ),
            (
                "gateways = [\"10.0.0.300\"]",
                "network.gateways[0]: found string \"10.0.0.300\", \
                 expected an IP address, such as \"10.0.0.1\" or \"fe80::1\"",
            ),
            (
                "addresses = [\"dhcp\", \"10.0.0.2/33\"]",
                "network.addresses[1]: found string \"10.0.0.2/33\", expected an address with the length of its \
                 prefix, such as \"10.0.0.2/24\", or \"dhcp\" or \"slaac\"",
            ),
            ("routes = [{ via = \"10.0.0.1\" }]", "network.routes[0].to: found nothing, expected a value"),
            (
                "routes = [{ to = \"10.1.0.0/16\", through = 1 }]",
                "network.routes[0].through: found a key that there is not, expected one of `to`, `via`, `metric`",
            ),
        ],
    );
}

#[test]
fn wrong_values_of_tcp_are_refused() {
    refused(
        "tcp",
        &[
            (
                "min-rto = 200",
                "tcp.min-rto: found integer `200`, \
                 expected a time with a unit, such as \"200ms\", \"75s\" or \"2h\"",
            ),
            (
                "congestion-control = \"vegas\"",
                "tcp.congestion-control: found string \"vegas\", \
                 expected \"cubic\", \"reno\", \"bbr\" or \"dctcp\"",
            ),
            ("keepalive = true", "tcp.keepalive: found boolean `true`, expected a table"),
            ("send-buffer = { initial = 1 }", "tcp.send-buffer.maximum: found nothing, expected a value"),
        ],
    );
}

#[test]
fn addresses_that_nobody_can_have_are_refused() {
    refused(
        "network",
        &[
            (
                "addresses = [\"10.0.0.0/24\"]",
                "network.addresses[0]: found 10.0.0.0/24, \
                 expected the address of a host, between 10.0.0.0 and 10.0.0.255",
            ),
            (
                "addresses = [\"10.0.0.255/24\"]",
                "network.addresses[0]: found 10.0.0.255/24, \
                 expected the address of a host, between 10.0.0.0 and 10.0.0.255",
            ),
            (
                "addresses = [\"127.0.0.1/8\"]",
                "network.addresses[0]: found 127.0.0.1/8, expected the address of a host",
            ),
            (
                "addresses = [\"ff02::1/64\"]",
                "network.addresses[0]: found ff02::1/64, expected the address of a host",
            ),
            (
                "addresses = [\"10.0.0.1/0\"]",
                "network.addresses[0]: found 10.0.0.1/0, expected a prefix of one bit or more",
            ),
            (
                "addresses = [\"10.0.0.2/24\", \"10.0.0.3/24\", \"10.0.0.2/16\"]",
                "network.addresses[2]: found 10.0.0.2/16 again, expected each address once",
            ),
            (
                "addresses = [\"dhcp\", \"dhcp\"]",
                "network.addresses[1]: found dhcp again, expected each address once",
            ),
            (
                "mac = \"03:00:00:00:00:01\"",
                "network.mac: found 03:00:00:00:00:01, \
                 expected the address of one host, the first byte of which is even",
            ),
        ],
    );
    // Networks of two and of one.
    for good in ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.9/32", "fd00::/127"] {
        parsed(&format!("network.addresses = [\"{good}\"]"));
    }
}

#[test]
fn routers_are_neighbours() {
    const TWO: &str = "addresses = [\"10.0.0.2/24\", \"fd00::2/64\"]";
    let cases = [
        ("gateways = [\"10.0.1.1\"]", "gateways[0]: found 10.0.1.1, expected an address in 10.0.0.0/24"),
        (
            "gateways = [\"fd01::1\"]",
            "gateways[0]: found fd01::1, expected an address in fd00::/64, fe80::/10",
        ),
        (
            "gateways = [\"10.0.0.2\"]",
            "gateways[0]: found 10.0.0.2, an address of our own, expected the address of a router",
        ),
        (
            "gateways = [\"10.0.0.1\", \"10.0.0.1\"]",
            "gateways[1]: found 10.0.0.1 again, expected each router once",
        ),
        (
            "routes = [{ to = \"10.1.0.1/16\" }]",
            "routes[0].to: found 10.1.0.1/16, expected a network, such as 10.1.0.0/16",
        ),
        (
            "routes = [{ to = \"10.1.0.0/16\", via = \"fd00::1\" }]",
            "routes[0].via: found fd00::1, expected an IPv4 address, as that of 10.1.0.0/16 is",
        ),
        (
            "routes = [{ to = \"10.1.0.0/16\", via = \"10.2.0.1\" }]",
            "routes[0].via: found 10.2.0.1, expected an address in 10.0.0.0/24",
        ),
        (
            "routes = [{ to = \"10.1.0.0/16\" }, { to = \"10.1.0.0/16\", metric = 1 }]",
            "routes[1]: found the route to 10.1.0.0/16 again, expected each route once",
        ),
    ];
    for (text, expected) in cases {
        let error = error(&format!("[network]\n{TWO}\n{text}\n"));
        assert_eq!(error, format!("line 3: network.{expected}"));
    }
    assert_eq!(
        error("network = { addresses = \"fd00::2/64\", gateways = [\"10.0.0.1\"] }"),
        "line 1: network.gateways[0]: found 10.0.0.1, \
         expected no router, as there is no address of its version, nor \"dhcp\""
    );
    // Which networks there will be is not known yet.
    parsed("network = { addresses = \"dhcp\", gateways = [\"10.0.0.1\"] }");
    parsed("network = { addresses = [], gateways = [\"fe80::1\"] }");
}

#[test]
fn values_out_of_range_are_refused() {
    refused(
        "network",
        &[
            (
                "interface = \"\"",
                "network.interface: found \"\", expected the name of an interface, 1 to 15 bytes",
            ),
            (
                "interface = \"a-very-long-name\"",
                "network.interface: found \"a-very-long-name\", expected the name of an interface, 1 to 15 bytes",
            ),
            ("mtu = 1279", "network.mtu: found 1279, expected 1280 bytes or more, as IPv6 needs"),
            ("ring-frames = 100", "network.ring-frames: found 100, expected a power of two"),
            ("ring-frames = 0", "network.ring-frames: found 0, expected a value from 32 to 65536"),
            ("hop-limit = 0", "network.hop-limit: found 0, expected a value from 1 to 255"),
            (
                "ephemeral-ports = [2000, 1000]",
                "network.ephemeral-ports: found [2000, 1000], \
                 expected the first and the last port, from 1 to 65535",
            ),
        ],
    );
    refused(
        "tcp",
        &[
            ("min-rto = \"3min\"", "tcp.min-rto: found 180s, expected a value from 1ms to 120s"),
            (
                "acknowledgment-delay = \"1s\"",
                "tcp.acknowledgment-delay: found 1s, expected a value from 0ns to 499ms",
            ),
            ("retries = 0", "tcp.retries: found 0, expected a value from 1 to 127"),
            ("keepalive.count = 0", "tcp.keepalive.count: found 0, expected a value from 1 to 127"),
            (
                "send-buffer = { initial = \"1MiB\", maximum = 8192 }",
                "tcp.send-buffer.initial: found 1048576, expected a value from 2048 to 8192",
            ),
        ],
    );
    refused("limits", &[("sockets = 0", "limits.sockets: found 0, expected a value from 1 to 16777216")]);
    refused(
        "capture",
        &[
            ("snap-length = 0", "capture.snap-length: found 0, expected a value from 64 to 262144"),
            ("file = \"\"", "capture.file: found \"\", expected the name of a file"),
        ],
    );
    refused(
        "faults",
        &[
            ("drop = 1.5", "faults.drop: found 1.5, expected a value from 0.0 to 1.0"),
            ("corrupt = nan", "faults.corrupt: found NaN, expected a value from 0.0 to 1.0"),
            ("delay = \"2min\"", "faults.delay: found 120s, expected a value from 0ns to 60s"),
            ("size-limit = 1", "faults.size-limit: found 1, expected a value from 64 to 65536"),
            ("rate-limit = 0", "faults.rate-limit: found 0, expected a value from 1 to 1073741824"),
        ],
    );
    parsed("network = { addresses = \"10.0.0.2/24\", mtu = 576 }");
}

/// A key that is not in the text is wrong where its section begins.
#[test]
fn a_missing_key_is_wrong_in_its_section() {
    assert_eq!(
        error("\n[tcp]\nsack = true\ncongestion-control = \"dctcp\"\n"),
        "line 2: tcp.ecn: found \"accept\", expected \"exact\", as congestion-control is \"dctcp\""
    );
}

#[test]
fn what_a_program_builds_is_validated_too() {
    let mut config = NetConfig::default();
    config.tcp.initial_window = 0;
    let invalid = config.validate().unwrap_err();
    assert_eq!(invalid, Invalid::new("tcp.initial-window", 0, "a value from 1 to 256"));
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "(\\[(network|tcp|udp|limits)\\]\n|[a-z-]{1,9} ?= ?(\"[^\"\n]{0,9}\"|[0-9-]{1,9}|\\[[^\n]{0,9}\\])\n|\\PC{0,9}\n){0,6}") {
        let _ = text.parse::<NetConfig>().map_err(|error| error.to_string());
    }

    #[test]
    fn addresses_are_written_as_they_are_read(bits: u128, v4: bool, length in 0..=128u8) {
        let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
        let Some(cidr) = Cidr::new(address, length) else {
            prop_assert!(v4 && length > 32);
            return Ok(());
        };
        prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
        prop_assert!(cidr.contains(address) && cidr.contains(cidr.network().address()));
        prop_assert_eq!(cidr.network().network(), cidr.network());
    }
}
