//! Looking into programs from outside: the control socket that the configuration asks for, captures, and the example
//! that Prometheus scrapes.

use demikernel::Builder;
use demikernel_inspect::Client;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("demikernel-{name}-{}", std::process::id()))
}

fn configuration(socket: &Path) -> String {
    format!("[inspect]\nsocket = {:?}\n", socket.to_str().unwrap())
}

fn until_both_are_there(socket: &Path) -> std::io::Result<()> {
    loop {
        let mut cores = Client::connect(socket)?.metrics()?.runtimes;
        // Tests run at the same time, with runtimes of their own.
        cores.retain(|metrics| metrics.devices.iter().any(|device| device.name == "epoll"));
        if cores.len() == 2 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn all_cores_are_seen_through_one_socket() {
    let socket = path("cores");
    let seen = socket.clone();
    let builder = Builder::new().transport("epoll").cores(2).configuration(&configuration(&socket));
    let code = builder.run(move || {
        let socket = seen.clone();
        async move {
            let patience = Duration::from_secs(20);
            let seen = demikernel::spawn_blocking(move || until_both_are_there(&socket));
            demikernel::time::timeout(patience, seen).await.map_err(std::io::Error::other)???;
            // So that each sees the other.
            demikernel::time::sleep(Duration::from_millis(200)).await;
            std::io::Result::Ok(())
        }
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
    assert!(!socket.exists(), "it goes with the last runtime");
}

#[test]
fn a_socket_that_cannot_be_made_is_an_error_of_the_start() {
    let error = Builder::new().configuration("[inspect]\nsocket = \"/nowhere/s\"\n").build().unwrap_err();
    assert!(error.to_string().starts_with("control socket /nowhere/s: "), "{error}");
    let error = Builder::new().configuration("[inspect]\nsockets = 1\n").build().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
}

/// Traffic of the userspace stack, switched on and off from outside, and what tshark reads in it.
#[cfg(feature = "sim")]
#[test]
fn a_capture_of_a_running_program_is_read_by_tshark() {
    use demikernel::net::UdpSocket;
    let (socket, file) = (path("capture"), path("capture.pcapng"));
    let text = configuration(&socket);
    let runtime = Builder::new().transport("sim").configuration(&text).build().unwrap();
    runtime.block_on(async {
        let sender = UdpSocket::bind("0.0.0.0:7000").await.unwrap();
        let own = sender.local_addr().unwrap();
        let peer = "10.0.0.200:9".parse().unwrap();
        let send = async |data: &'static [u8]| {
            // Nobody is there, which the capture is not to know.
            let _ = sender.push_to(data.into(), peer).await;
            demikernel::time::sleep(Duration::from_millis(20)).await;
        };
        let ask = async |on: Option<PathBuf>| {
            let socket = socket.clone();
            let ask = move || Client::connect(&socket).unwrap().capture(on);
            demikernel::spawn_blocking(ask).await.unwrap().unwrap()
        };
        send(b"before").await;
        assert_eq!(ask(Some(file.clone())).await, std::slice::from_ref(&file));
        send(b"during").await;
        send(b"during").await;
        assert!(ask(None).await.is_empty());
        send(b"after").await;
        assert_eq!(own.port(), 7000);
    });
    let fields = ["-T", "fields", "-e", "udp.srcport", "-e", "udp.dstport", "-e", "data.data"];
    let tshark = std::process::Command::new("tshark")
        .arg("-r")
        .arg(&file)
        .args(["-Y", "udp.port == 7000"])
        .args(fields)
        .output();
    let Ok(output) = tshark else { return eprintln!("skipped: no tshark") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let during = "7000\t9\t647572696e67\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{during}{during}"));
    std::fs::remove_file(&file).unwrap();
}
