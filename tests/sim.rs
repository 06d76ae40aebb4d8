//! Programs on a simulated network, as their authors test them: the servers of the examples among them.

#![allow(clippy::duplicate_mod, reason = "two of the examples have the module `tls`")]

use clap::Parser;
use demikernel::fs::File;
use demikernel::hyper::Io;
use demikernel::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use demikernel::sim::{self, LinkConfig, Simulation};
use demikernel::time::{Duration, Instant, sleep, timeout};
use demikernel::{Buffer, Builder, Time, spawn};
use futures::{AsyncReadExt, AsyncWriteExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use std::io;
use std::process::Command;

#[allow(dead_code, reason = "of the program only the server is used")]
#[path = "../examples/echo.rs"]
mod echo;
#[allow(dead_code, reason = "as above")]
#[path = "../examples/http.rs"]
mod http;
#[allow(dead_code, reason = "as above")]
#[path = "../examples/key-value/main.rs"]
mod key_value;
#[allow(dead_code, reason = "as above")]
#[path = "../examples/udp-relay.rs"]
mod udp_relay;

/// Sends bytes to a server that sends them back, and compares.
async fn exchange(server: &str, count: usize) -> io::Result<()> {
    let (mut reader, mut writer) = TcpStream::connect(server).await?.into_split();
    let sent: Vec<u8> = (0..count).map(|place| (place ^ place >> 8) as u8).collect();
    let expected = sent.clone();
    let writing = spawn(async move {
        writer.write_all(&sent).await?;
        writer.close().await
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await?;
    writing.await??;
    assert!(received == expected, "bytes were lost or altered");
    Ok(())
}

#[demikernel::test(transport = "sim", seeds = 12)]
async fn the_echo_server_answers_over_bad_links() -> io::Result<()> {
    let network = sim::current();
    network.host("server", || echo::serve("0.0.0.0:7000".parse().unwrap()));
    let clients: Vec<_> = (0..4).map(|index| spawn(exchange("server:7000", index * 20_000))).collect();
    for client in clients {
        client.await??;
    }
    assert!(network.stats("test", "server").delivered > 10);
    Ok(())
}

#[demikernel::test(transport = "sim", seeds = 12)]
async fn the_key_value_server_keeps_what_it_was_given_over_bad_links() -> io::Result<()> {
    let network = sim::current();
    network.host("server", async || {
        key_value::serve(&key_value::Args::parse_from(["key-value", "--listen", "0.0.0.0:6379"])).await
    });
    let mut stream = TcpStream::connect("server:6379").await?;
    let mut expected = String::new();
    for number in 0..50 {
        stream.write_all(format!("SET key-{number} {}\r\n", number * 7).as_bytes()).await?;
        expected += "+OK\r\n";
    }
    for number in 0..50 {
        let value = (number * 7).to_string();
        stream.write_all(format!("GET key-{number}\r\n").as_bytes()).await?;
        expected += &format!("${}\r\n{value}\r\n", value.len());
    }
    stream.write_all(b"SET brief x EX 60\r\n").await?;
    expected += "+OK\r\n";
    let mut replies = vec![0; expected.len()];
    stream.read_exact(&mut replies).await?;
    assert_eq!(String::from_utf8(replies).unwrap(), expected);

    // A minute takes none.
    sleep(Duration::from_secs(61)).await;
    stream.write_all(b"GET brief\r\nQUIT\r\n").await?;
    let mut end = String::new();
    stream.read_to_string(&mut end).await?;
    assert!(end.starts_with("$-1\r\n"), "{end}");
    Ok(())
}

#[demikernel::test(transport = "sim", seeds = 12)]
async fn the_http_server_answers_over_bad_links() {
    let network = sim::current();
    network.host("server", || http::serve("0.0.0.0:80".parse().unwrap(), None));
    let stream = TcpStream::connect("server:80").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io::new(stream)).await.unwrap();
    spawn(connection).detach();
    for size in [0, 1, 100_000] {
        let body = Bytes::from(vec![b'x'; size]);
        let request = hyper::Request::post("/echo").header("host", "server");
        let request = request.body(Full::new(body.clone())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}

#[demikernel::test(transport = "sim")]
async fn the_http_server_sends_away_who_does_not_get_to_a_request() {
    let network = sim::current();
    network.host("server", || http::serve("0.0.0.0:80".parse().unwrap(), None));
    // Nothing, less than tells the version, and of either version less than a request.
    let beginnings =
        ["", "P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost:"];
    let clients = beginnings.map(|beginning| async move {
        let mut stream = TcpStream::connect("server:80").await.unwrap();
        let start = Instant::now();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30, "{beginning:?}");
    });
    futures::future::join_all(clients).await;
}

#[demikernel::test(transport = "sim", seeds = 12)]
async fn the_relay_passes_on_what_is_not_lost() {
    let network = sim::current();
    let sink = network.host("sink", async || {
        let socket = UdpSocket::bind("0.0.0.0:9").await?;
        loop {
            let (data, from) = socket.pop_from().await?;
            socket.push_to(data, from).await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let relay = network.host("relay", move || {
        let forward = format!("{sink}:9");
        udp_relay::relay(udp_relay::Args::parse_from([
            "relay",
            "--listen",
            "0.0.0.0:8",
            "--forward",
            &forward,
        ]))
    });
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let mut answers = 0;
    for number in 0..40u8 {
        socket.push_to(Buffer::from(vec![number]), (relay, 8).into()).await.unwrap();
        // What comes late is the answer to an earlier one.
        if let Ok(answer) = timeout(Duration::from_millis(500), socket.pop_from()).await {
            assert!(answer.unwrap().0[0] <= number);
            answers += 1;
        }
    }
    assert!(answers >= 20, "{answers} of 40 came back");
    assert!(network.seed() != 0 || answers == 40, "nothing is lost on good links");
}

#[demikernel::test(transport = "sim")]
async fn a_server_that_is_restarted_is_found_again() {
    let network = sim::current();
    network.host("server", || echo::serve("0.0.0.0:7000".parse().unwrap()));
    let stream = TcpStream::connect("server:7000").await.unwrap();
    stream.push("hello".into()).await.unwrap();
    assert_eq!(stream.pop().await.unwrap(), b"hello");
    network.crash("server");
    stream.push("still there?".into()).await.unwrap();
    assert!(timeout(Duration::from_secs(10), stream.pop()).await.is_err());
    network.bounce("server");
    assert_eq!(stream.pop().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    exchange("server:7000", 1000).await.unwrap();
}

/// What is not sent over a link is there, too.
#[demikernel::test(transport = "sim")]
async fn a_machine_has_loopback_files_and_unix_sockets() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let start = Instant::now();
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    client.push("hello".into()).await?;
    assert_eq!(server.pop().await?, b"hello");
    assert_eq!(start.elapsed(), Duration::ZERO);

    let file = File::create("notes").await?;
    file.write_at(Buffer::from("kept"), 0).await?;
    let network = sim::current();
    network.client("other", async {
        let error = File::open("notes").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "each machine has its own");
    });

    let listener = UnixListener::bind("socket")?;
    let client = UnixStream::connect("socket").await?;
    let (server, _) = listener.accept().await?;
    client.push("within".into()).await?;
    assert_eq!(server.pop().await?, b"within");
    sleep(Duration::from_secs(3600)).await;
    Ok(())
}

#[test]
fn a_runtime_of_its_own_is_one_machine() {
    for time in [Time::Virtual, Time::Real] {
        let runtime = Builder::new().transport("sim").time(time).build().unwrap();
        assert_eq!(runtime.devices(), ["sim", "memory"]);
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:7").await.unwrap();
            let client = TcpStream::connect("localhost:7").await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            client.push("hello".into()).await.unwrap();
            assert_eq!(server.pop().await.unwrap(), b"hello");
            sleep(Duration::from_millis(10)).await;
            assert!(sim::Control::try_current().is_none());
        });
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let simulation = Simulation::new(seed).unwrap();
        simulation.host("server", || echo::serve("0.0.0.0:7000".parse().unwrap()));
        simulation.block_on("client", exchange("server:7000", 100_000)).unwrap();
        simulation.trace()
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(seed + 1));
    }
    assert_ne!(LinkConfig::from_seed(1), LinkConfig::from_seed(2));
}

#[demikernel::test(transport = "sim", seeds = 10)]
#[ignore = "fails, and is started by the test below"]
async fn fails_with_seed_3() {
    sleep(Duration::from_millis(250)).await;
    assert_ne!(sim::current().seed(), 3);
}

#[test]
fn a_failing_test_says_its_seed_and_how_to_repeat_it() {
    let run = |seed: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["fails_with_seed_3", "--exact", "--ignored", "--nocapture"]);
        command.env_remove("DEMIKERNEL_SEED").envs(seed.map(|seed| ("DEMIKERNEL_SEED", seed)));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for seed in [None, Some("3")] {
        let (passed, errors) = run(seed);
        assert!(!passed && errors.contains("DEMIKERNEL_TRANSPORT=sim DEMIKERNEL_SEED=3"), "{errors}");
        assert!(errors.contains("the simulation had seed 3, 250ms had passed in it"), "{errors}");
    }
    assert!(run(Some("4")).0);
}
