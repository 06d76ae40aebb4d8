//! The ports of Demikernel's examples on the kernel's sockets; on the userspace stack they are tested in `tap`. How
//! connections end by its calls, on every transport.

mod programs;

use demikernel::pdpix::{self, Opcode, Qd};
use demikernel::transport::{Domain, SocketKind, SocketOption};
use demikernel::{Buffer, spawn};
use programs::ports::{self, Place};
use programs::{Server, built, text};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::time::Duration;

fn on_each_transport(test: impl Fn(&Place)) {
    for transport in demikernel::transports().iter().filter(|name| ["io_uring", "epoll"].contains(name)) {
        eprintln!("on {transport}");
        test(&Place::loopback(transport));
    }
}

#[test]
fn the_echo_server_has_many_clients() {
    on_each_transport(ports::the_echo_server_has_many_clients);
}

#[test]
fn the_echo_server_goes_on_beside_a_client_that_does_not_read() {
    on_each_transport(ports::the_echo_server_goes_on_beside_a_client_that_does_not_read);
}

#[test]
fn echo_clients_send_and_check_each_byte() {
    on_each_transport(ports::echo_clients_send_and_check_each_byte);
}

#[test]
fn ping_pong_checks_each_byte_at_both_ends() {
    on_each_transport(ports::ping_pong_checks_each_byte_at_both_ends);
}

#[test]
fn the_relay_passes_on_each_byte() {
    on_each_transport(ports::the_relay_passes_on_each_byte);
}

#[test]
fn pipes_carry_each_byte() {
    on_each_transport(ports::pipes_carry_each_byte);
}

/// Two transports, a server on several cores, and clients on several cores.
#[test]
fn each_kernel_transport_talks_to_each() {
    let kernel = |name: &&&str| ["io_uring", "epoll"].contains(name);
    for server in demikernel::transports().iter().filter(kernel) {
        for client in demikernel::transports().iter().filter(kernel) {
            // Several cores cannot each choose a port.
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let serve = ["--peer", "server", "--address", &free, "--nthreads", "2"];
            let served = Server::start_with("pdpix-tcp-echo", &serve, &[("DEMIKERNEL_TRANSPORT", server)]);
            let mut command = Command::new("timeout");
            command.arg("60").arg(built("pdpix-tcp-echo")).env("DEMIKERNEL_TRANSPORT", client);
            command.args(["--peer", "client", "--address", &served.address.to_string()]);
            command.args(["--run-mode", "concurrent", "--nthreads", "2", "--nclients", "16"]);
            command.args(["--nrequests", "50", "--bufsize", "1000"]);
            let report = text(&command.output().unwrap());
            let answered = report.matches("client: 800 requests of 1000 bytes").count();
            assert_eq!(answered, 2, "{server} and {client}: {report}");
        }
    }
}

#[test]
fn what_cannot_work_is_an_error_that_says_why() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    for arguments in
        [&["pdpix-tcp-echo", "--peer", "server", "--address"][..], &["pdpix-tcp-ping-pong", "--server"]]
    {
        let output = Command::new(built(arguments[0])).args(&arguments[1..]).arg(&address).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(
            !output.status.success() && errors.contains("in use") && errors.contains(&address),
            "{errors}"
        );
    }
    drop(free);
    for arguments in [
        &["pdpix-tcp-echo", "--peer", "client", "--address"][..],
        &["pdpix-tcp-echo", "--peer", "client", "--run-mode", "concurrent", "--address"],
        &["pdpix-tcp-ping-pong", "--client"],
    ] {
        let output = Command::new(built(arguments[0])).args(&arguments[1..]).arg(&address).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(
            !output.status.success() && errors.contains("refused") && errors.contains(&address),
            "{errors}"
        );
    }
    let output = Command::new(built("pdpix-tcp-ping-pong")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "neither a server nor a client");
}

/// Both ends of a connection.
async fn pair() -> io::Result<(Qd, Qd)> {
    let listener = pdpix::socket(Domain::V4, SocketKind::Stream)?;
    pdpix::bind(listener, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    pdpix::listen(listener, 1)?;
    let client = pdpix::socket(Domain::V4, SocketKind::Stream)?;
    let tokens = [pdpix::accept(listener)?, pdpix::connect(client, pdpix::getsockname(listener)?)?];
    let results = pdpix::wait_all(&tokens, None).await?;
    pdpix::close(listener)?;
    results[0].value.accepted().map(|server| (client, server)).ok_or(io::ErrorKind::NotConnected.into())
}

async fn until_the_end(qd: Qd) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let popped = pdpix::wait(pdpix::pop(qd, None)?, None).await?.ok()?;
        match popped.into_sga().unwrap() {
            sga if sga.is_empty() => return Ok(all),
            sga => all.extend(sga.to_vec()),
        }
    }
}

#[demikernel::test]
async fn a_connection_ends_when_both_have_heard_everything() -> io::Result<()> {
    let (client, server) = pair().await?;
    let sent: Vec<u8> = (0..300_000).map(|place| (place * 31 + place / 251) as u8).collect();
    pdpix::push(client, Buffer::from(sent.clone()))?;
    let closing = pdpix::async_close(client)?;
    let reads = spawn(until_the_end(server));
    assert!(reads.await.unwrap()? == sent);
    let early = pdpix::wait(closing, Some(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(early.raw_os_error(), Some(libc::ETIMEDOUT), "the other direction is open");
    pdpix::close(server)?;
    assert_eq!(pdpix::wait(closing, None).await?.opcode, Opcode::Close);
    Ok(())
}

#[demikernel::test]
async fn one_direction_ends_before_the_other() -> io::Result<()> {
    let (client, server) = pair().await?;
    pdpix::push(client, Buffer::from("a question"))?;
    pdpix::shutdown(client, Shutdown::Write)?;
    assert_eq!(until_the_end(server).await?, b"a question");
    pdpix::push(server, Buffer::from("an answer"))?;
    let closing = pdpix::async_close(server)?;
    assert_eq!(until_the_end(client).await?, b"an answer");
    pdpix::close(client)?;
    pdpix::wait(closing, None).await?.ok().map(drop)
}

#[demikernel::test]
async fn a_peer_that_resets_is_told_of() -> io::Result<()> {
    let (client, server) = pair().await?;
    let closing = pdpix::async_close(client)?;
    pdpix::setsockopt(server, SocketOption::Linger(Some(Duration::ZERO)))?;
    pdpix::close(server)?;
    let result = pdpix::wait(closing, None).await?;
    assert_eq!((result.opcode, result.errno()), (Opcode::Failed, libc::ECONNRESET));
    Ok(())
}
