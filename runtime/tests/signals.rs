//! Signals. They are the process's, so each test has one of its own.

#[path = "support/mod.rs"]
mod support;

use demikernel_runtime::signal::{SignalKind, ctrl_c, signal};
use demikernel_runtime::time::timeout;
use demikernel_runtime::{Builder, Idle, spawn, yield_now};
use futures::{FutureExt, StreamExt, poll};
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::run;

const SOON: Duration = Duration::from_secs(20);

/// Sends a signal to this process.
fn send(kind: SignalKind) {
    signal_hook::low_level::raise(kind.as_raw()).unwrap();
}

#[test]
fn ctrl_c_is_heard_by_all_and_ends_nothing() {
    run(async {
        let others = [(); 3].map(|()| spawn(ctrl_c()));
        let mut own = ctrl_c();
        assert!(poll!(&mut own).is_pending());
        send(SignalKind::INTERRUPT);
        timeout(SOON, &mut own).await.unwrap().unwrap();
        for other in others {
            timeout(SOON, other).await.unwrap().unwrap().unwrap();
        }
        // There is no listener now, and the process lives on.
        send(SignalKind::INTERRUPT);
    });
}

#[test]
fn every_core_hears_of_it_also_when_it_blocks() {
    const CORES: usize = 3;
    let listening = Barrier::new(CORES + 1);
    let heard = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CORES {
            scope.spawn(|| {
                let runtime = Builder::new().idle(Idle::Block).build().unwrap();
                runtime.block_on(async {
                    let mut users = signal(SignalKind::USER_1).unwrap();
                    listening.wait();
                    timeout(SOON, users.recv()).await.unwrap();
                    heard.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        listening.wait();
        send(SignalKind::USER_1);
    });
    assert_eq!(heard.load(Ordering::Relaxed), CORES);
}

#[test]
fn a_signal_between_two_looks_is_not_lost() {
    run(async {
        let mut users = signal(SignalKind::USER_2).unwrap();
        assert!(poll!(pin!(users.recv())).is_pending());
        // The future is gone; the listener is not.
        send(SignalKind::USER_2);
        timeout(SOON, users.next()).await.unwrap().unwrap();
        assert!(users.next().now_or_never().is_none());
        for _ in 0..20 {
            send(SignalKind::USER_2);
            timeout(SOON, users.recv()).await.unwrap();
        }
    });
}

#[test]
fn each_signal_has_its_own_listeners() {
    run(async {
        let mut hangups = signal(SignalKind::HANGUP).unwrap();
        let mut terminations = signal(SignalKind::TERMINATE).unwrap();
        let mut real_time = signal(SignalKind::from_raw(40)).unwrap();
        drop(signal(SignalKind::HANGUP).unwrap());
        send(SignalKind::TERMINATE);
        timeout(SOON, terminations.recv()).await.unwrap();
        send(SignalKind::from_raw(40));
        timeout(SOON, real_time.recv()).await.unwrap();
        yield_now().await;
        assert!(hangups.recv().now_or_never().is_none());
        send(SignalKind::HANGUP);
        timeout(SOON, hangups.recv()).await.unwrap();
    });
}
