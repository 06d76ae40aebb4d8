//! Programs in virtual time that wait for what never comes.

use crate::{run, seeded, simulated};
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::{operation, spawn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[test]
fn a_program_that_can_never_go_on_is_told() {
    let start = Instant::now();
    let (runtime, _sim) = simulated(seeded(1));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
            let client = TcpStream::connect("127.0.0.1:80").await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            let waits = spawn(async move { server.pop().await.unwrap() });
            // Each waits for the other to speak.
            let _ = client.pop().await;
            drop(waits);
        });
    }));
    let message = *panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("deadlock in virtual time: "), "{message}");
    assert!(message.contains("1 tasks and 2 other operations wait"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(60));
    // The runtime is as good as before.
    assert_eq!(runtime.block_on(async { 7 }), 7);
}

#[test]
fn a_thread_that_takes_a_while_is_no_deadlock() {
    let (runtime, _sim) = simulated(seeded(1));
    let (sender, receiver) = futures::channel::oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        sender.send(7).unwrap();
    });
    assert_eq!(runtime.block_on(receiver), Ok(7));
    thread.join().unwrap();
}

#[test]
fn waiting_that_ends_is_no_deadlock() {
    run(1, async {
        let (token, completion) = operation::<()>();
        let task = spawn(token);
        demikernel_runtime::yield_now().await;
        completion.complete(());
        task.await.unwrap();
    });
}
