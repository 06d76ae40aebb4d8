//! What the machine does: limits, cables, devices that go.

use std::process::Command;
use std::time::Instant;

use super::*;

fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{words:?}: {status}");
}

/// The next event of the device that is as wanted.
fn event(device: &Device, is_wanted: impl Fn(DeviceEvent) -> bool) {
    let deadline = Instant::now() + LIMIT;
    loop {
        match device.next_event().unwrap() {
            Some(event) if is_wanted(event) => return,
            Some(_) => {}
            None => assert!(readable(device.events_fd(), deadline), "no such event in {LIMIT:?}"),
        }
    }
}

#[test]
fn a_limit_of_locked_memory_is_named() {
    if std::env::var_os("RXE_TEST_LOCKED").is_some() {
        let device = Device::open("rxe0").unwrap();
        let _mapped = space(64);
        let error = ProtectionDomain::new(&device).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let text = error.to_string();
        assert!(text.contains("the process may lock 256 KiB (`ulimit -l`"), "{text}");
        return;
    }
    let Some(_) = address() else { return };
    // The same as whoever may not lock more than others.
    let program = std::env::current_exe().unwrap();
    let name = "machine::a_limit_of_locked_memory_is_named";
    let script = format!("ulimit -l 256; exec {} --exact {name} --nocapture", program.display());
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-ipc_lock", "sh", "-c", &script]).env("RXE_TEST_LOCKED", "1");
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_port_that_goes_down_says_so() {
    let Some(_) = address() else { return };
    let device = Device::open("rxe0").unwrap();
    run(&["ip", "link", "set", "rdma0", "down"]);
    event(&device, |event| event == DeviceEvent::PortDown { port: 1 });
    let error = device.active_port(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    assert!(error.to_string().contains("port 1 of rxe0 is DOWN"), "{error}");
    run(&["ip", "link", "set", "rdma0", "up"]);
    event(&device, |event| event == DeviceEvent::PortUp { port: 1 });
    device.active_port(1).unwrap();
}

#[test]
#[ignore = "the device is gone after this: run by itself"]
fn a_device_that_is_removed_takes_its_connections_along() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let connection = connect(&client, client.pair(&tagged(1)), &server, server.pair(&tagged(2)));
    connection.far.receive(space(64), 0).unwrap();
    // It ends with this process: librdmacm keeps the device open, and this driver waits for whoever has it open.
    run(&["sh", "-c", "rdma link delete rxe0 >/dev/null 2>&1 &"]);
    for side in [&client, &server] {
        while !matches!(side.event().kind, EventKind::DeviceRemoved) {}
    }
    connection.near.receive(space(64), 3).unwrap();
    let Connection { near_id, near, far_id, far } = connection;
    drop((near_id, far_id));
    near.fail().unwrap();
    assert_eq!(failure(client.completion()), Status::Flushed);
    drop((near, far));
    drop((client, server));
    assert_eq!(pool::stats().in_use(), 0);
}
