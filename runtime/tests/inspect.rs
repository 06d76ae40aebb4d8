//! Looking inside: what is counted, and what a dump shows.

use demikernel_runtime::inspect::{self, Progress, TokenKind};
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::{Builder, Idle, Runtime, Time, dump, metrics, operation, spawn, time, yield_now};
use std::time::Duration;

fn line_of(location: &str) -> u32 {
    location.rsplit(':').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_task_shows_where_it_was_spawned_and_what_it_waits_for() {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    runtime.block_on(async {
        let (token, completion) = operation::<u16>();
        let here = line!();
        let waits = spawn(token).named("waiter");
        let joins = spawn(waits);
        let sleeps = spawn(time::sleep(Duration::from_secs(7)));
        let (never, _promise) = operation::<u8>();
        yield_now().await;
        yield_now().await;
        let dump = dump();
        assert_eq!(dump.tasks.len(), 3, "{dump}");
        let [waiter, joiner, sleeper] = &dump.tasks[..] else { unreachable!() };
        assert_eq!(waiter.name.as_deref(), Some("waiter"));
        assert!(waiter.spawned.contains("tests/inspect.rs"), "{dump}");
        assert_eq!(line_of(&waiter.spawned), here + 1);
        assert_eq!(waiter.progress, Progress::Waiting);
        assert_eq!(waiter.waits_for[0].result.as_deref(), Some("u16"));
        assert!(waiter.future.contains("QToken<u16>"), "{dump}");
        assert_eq!((joiner.name.as_deref(), line_of(&joiner.spawned)), (None, here + 2));
        assert_eq!((joiner.waits_for[0].kind, joiner.waits_for[0].task), (TokenKind::Join, Some(waiter.id)));
        assert_eq!(sleeper.waits_for[0].kind, TokenKind::Timer);
        assert_eq!(sleeper.waits_for[0].due, Some(Duration::from_secs(7)));
        // Nobody has polled it.
        assert_eq!(dump.others.len(), 1, "{dump}");
        assert_eq!(dump.others[0].result.as_deref(), Some("u8"));
        let text = dump.to_string();
        assert!(text.contains(" \"waiter\" waits, spawned at "), "{text}");
        assert!(text.contains(&format!("end of task {}", waiter.id)), "{text}");
        completion.complete(1);
        drop((never, sleeps));
        assert_eq!(joins.await.unwrap().unwrap(), 1);
    });
}

#[test]
fn a_dump_survives_the_trip_through_json_and_has_a_limit() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for index in 0..50 {
            spawn(std::future::pending::<()>()).named(format!("task {index}")).detach();
        }
        yield_now().await;
        let all = dump();
        let read = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!(all, read);
        assert_eq!(all.tasks[49].name.as_deref(), Some("task 49"));
        let few = demikernel_runtime::handle().dump(10, Duration::from_secs(1)).unwrap();
        assert_eq!((few.tasks.len(), few.omitted), (10, 40));
        let metrics = metrics();
        let read = serde_json::from_str(&serde_json::to_string(&metrics).unwrap()).unwrap();
        assert_eq!(metrics, read);
    });
}

#[test]
fn names_go_with_their_tasks() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for _ in 0..10_000 {
            spawn(async {}).named("short").await.unwrap();
        }
        let nameless = spawn(std::future::pending::<()>());
        yield_now().await;
        assert_eq!(dump().tasks[0].name, None, "the name of the one that had the slot before");
        drop(nameless);
    });
}

#[test]
fn counts_are_those_of_what_was_done() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let before = metrics();
        let tasks: Vec<_> = (0..100).map(|_| spawn(yield_now())).collect();
        let timer = time::sleep(Duration::from_secs(9));
        let mut timer = std::pin::pin!(timer);
        assert!(futures::poll!(&mut timer).is_pending());
        let (_token, _completion) = operation::<()>();
        let during = metrics();
        assert_eq!((during.tasks, during.spawned - before.spawned), (100, 100));
        assert_eq!((during.timers, during.tokens), (1, 1));
        assert!(during.wakes >= before.wakes + 100);
        for task in tasks {
            task.await.unwrap();
        }
        let after = metrics();
        assert_eq!(after.tasks, 0);
        assert!(after.polls >= before.polls + 200 && after.wakes >= after.polls);
    });
}

#[test]
fn time_is_busy_idle_or_parked() {
    const WORK: Duration = Duration::from_millis(100);
    let runtime = Builder::new().idle(Idle::Block).build().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async {
        time::sleep(2 * WORK).await;
        let start = std::time::Instant::now();
        while start.elapsed() < WORK {}
        yield_now().await;
    });
    let metrics = runtime.metrics();
    // Other programs may take the processor, so what is measured can only be longer.
    let near = |time: Duration, wanted: Duration| time > wanted * 9 / 10 && time < wanted * 10;
    assert!(near(metrics.busy, WORK), "{metrics:?}");
    assert!(near(metrics.idle, 2 * WORK) && near(metrics.parked, 2 * WORK), "{metrics:?}");
    assert!(metrics.idle + Duration::from_millis(1) >= metrics.parked, "{metrics:?}");
    assert!(metrics.turn_times.quantile(1.0).unwrap() >= WORK, "{metrics:?}");
    // Outside of `block_on` nothing is counted.
    std::thread::sleep(WORK / 5);
    assert_eq!(runtime.metrics().busy, metrics.busy);
}

#[test]
fn other_threads_see_a_blocked_runtime_and_are_told_of_one_that_is_stuck() {
    let runtime = Builder::new().idle(Idle::Block).build().unwrap();
    let handle = runtime.handle();
    let short = Duration::from_millis(20);
    // Nobody runs it.
    let error = handle.metrics(short).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    runtime.block_on(async {
        let other = handle.clone();
        let patience = Duration::from_secs(20);
        let seen = demikernel_runtime::spawn_blocking(move || {
            let dump = other.dump(usize::MAX, patience);
            // Remote wakes are counted.
            (other.metrics(patience), dump)
        });
        let (metrics, dump) = seen.await.unwrap();
        assert!(metrics.unwrap().remote_wakes <= 2);
        assert!(dump.unwrap().main.is_some());
        assert!(metrics_of_all(patience).is_ok());
    });
    drop(runtime);
    assert_eq!(handle.metrics(short).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
}

fn metrics_of_all(patience: Duration) -> std::io::Result<()> {
    // Tests run at the same time: other runtimes may be stuck, or gone.
    let own = demikernel_runtime::metrics().runtime;
    let mut all = inspect::runtimes().into_iter().filter_map(|handle| handle.metrics(patience / 100).ok());
    let found = all.any(|metrics| metrics.runtime == own);
    if found { Ok(()) } else { Err(std::io::ErrorKind::NotFound.into()) }
}

#[test]
fn operations_say_which_device_does_them_and_since_when() {
    use demikernel_runtime::net::UdpSocket;
    let runtime = Runtime::new().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        spawn(async move { socket.pop_from().await.map(drop) }).named("listener").detach();
        time::sleep(Duration::from_millis(30)).await;
        let dump = dump();
        let token = &dump.tasks[0].waits_for[0];
        assert_eq!(token.device.as_deref(), Some("epoll"), "{dump}");
        assert!(token.what.as_deref().is_some_and(|what| what.starts_with("receive of socket ")), "{dump}");
        assert!(token.since.unwrap() >= Duration::from_millis(20), "{dump}");
    });
}

#[test]
fn connections_are_shown_with_what_tcp_knows_of_them() {
    use demikernel_runtime::net::{TcpListener, TcpStream};
    let runtime = Runtime::new().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (_server, _) = listener.accept().await.unwrap();
        client.push(vec![7; 1000].into()).await.unwrap();
        let all = inspect::connections();
        assert_eq!(all.len(), 3, "{all:?}");
        let (peer, local) = (address.to_string(), client.local_addr().unwrap().to_string());
        let of_client = all.iter().find(|it| it.peer.as_ref() == Some(&peer)).unwrap();
        assert_eq!((&*of_client.device, of_client.local.as_ref()), ("epoll", Some(&local)));
        assert_eq!(of_client.state.as_deref(), Some("established"));
        assert!(of_client.figure("rtt").unwrap() > 0 && of_client.figure("snd_mss").unwrap() > 0);
        let states = all.iter().filter(|it| it.state.as_deref() == Some("listen"));
        assert_eq!(states.count(), 1, "{all:?}");
        assert_eq!(demikernel_runtime::handle().connections(2, Duration::ZERO).unwrap().len(), 2);
    });
}
