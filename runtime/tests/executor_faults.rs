//! What users' destructors, wakers and devices may do to the executor at the worst moment: it stays sound, and
//! nobody else is harmed.

// Tests take tokens out of `block_on`.
#![allow(clippy::async_yields_async)]

use demikernel_runtime::time::sleep;
use demikernel_runtime::transport::memory::Memory;
use demikernel_runtime::transport::{Device, Interest, Transport, Turn};
use demikernel_runtime::{Completion, DeviceId, QToken, Runtime, operation, spawn, task_local, yield_now};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

/// A payload of a panic that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload's own");
    }
}

/// A future that panics, and so does its drop, with a payload that does.
struct Vicious(Rc<Cell<u32>>);

impl Future for Vicious {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("first")
    }
}

impl Drop for Vicious {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        panic_any(Bomb);
    }
}

#[test]
fn a_future_is_dropped_once_even_if_its_panics_payload_panics() {
    let drops = Rc::new(Cell::new(0));
    let runtime = Runtime::new().unwrap();
    let error = runtime.block_on(spawn_vicious(&drops));
    assert_eq!(error.as_deref(), Some("the task panicked: first"));
    drop(runtime);
    assert_eq!(drops.get(), 1);
}

async fn spawn_vicious(drops: &Rc<Cell<u32>>) -> Option<String> {
    spawn(Vicious(drops.clone())).await.err().map(|error| error.to_string())
}

#[test]
fn an_output_whose_drop_panics_with_such_a_payload_harms_nobody() {
    struct Output;
    impl Drop for Output {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }
    Runtime::new().unwrap().block_on(async {
        let neighbours = [(); 3].map(|()| spawn(yield_now()));
        spawn(async { Output }).detach();
        let others = [(); 3].map(|()| spawn(yield_now()));
        for task in neighbours.into_iter().chain(others) {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_panic_while_a_remote_spawn_makes_its_future_is_that_tasks() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (broken, whole) = runtime.block_on(async move {
        let thread = std::thread::spawn(move || {
            let broken = handle.spawn_with(|| -> std::future::Ready<()> { panic!("no future") });
            (broken, handle.spawn_with(|| async { 5 }))
        });
        let (broken, whole) = thread.join().unwrap();
        (broken.await, whole.await)
    });
    assert!(broken.unwrap_err().is_panic());
    assert_eq!(whole.unwrap(), 5);
}

#[test]
fn what_waits_to_be_spawned_may_panic_when_the_runtime_ends() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("loud");
        }
    }
    let runtime = Runtime::new().unwrap();
    let (handle, loud) = (runtime.handle(), Loud);
    drop(handle.spawn(async move { drop(loud) }));
    drop(runtime);
    // The thread runs no core now.
    assert_eq!(Runtime::new().unwrap().block_on(async { spawn(async { 5 }).await.unwrap() }), 5);
}

/// A waker that does what a test wants when it is woken or dropped.
struct Hook {
    wake: fn(),
    drop: Box<dyn Fn() + Send + Sync>,
}

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        (self.wake)();
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        (self.drop)();
    }
}

#[test]
fn a_waker_that_panics_harms_neither_the_completion_nor_the_loop() {
    let waker = || Waker::from(Arc::new(Hook { wake: || panic!("a waker's"), drop: Box::new(|| ()) }));
    Runtime::new().unwrap().block_on(async {
        let (mut token, completion) = operation::<u32>();
        assert!(Pin::new(&mut token).poll(&mut Context::from_waker(&waker())).is_pending());
        let mut timer = Box::pin(sleep(Duration::from_millis(1)));
        assert!(timer.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        let mut task = spawn(yield_now());
        assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker())).is_pending());
        let neighbours = [(); 3].map(|()| spawn(yield_now()));
        completion.complete(5);
        assert_eq!(token.await, 5);
        for task in neighbours {
            task.await.unwrap();
        }
        task.await.unwrap();
        timer.await;
    });
}

thread_local! {
    static KEPT: RefCell<Option<Completion<Rc<()>>>> = const { RefCell::new(None) };
}

fn complete_kept(value: &Rc<()>) {
    if let Some(completion) = KEPT.take() {
        completion.complete(value.clone());
    }
}

thread_local! {
    static VALUE: Rc<()> = Rc::new(());
}

#[test]
fn a_waker_may_complete_its_operation_while_the_token_is_dropped() {
    let runtime = Runtime::new().unwrap();
    let hook = Hook { wake: || (), drop: Box::new(|| VALUE.with(complete_kept)) };
    runtime.block_on(async {
        let (mut token, completion) = operation::<Rc<()>>();
        KEPT.set(Some(completion));
        let waker = Waker::from(Arc::new(hook));
        assert!(Pin::new(&mut token).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        drop(token);
    });
    assert_eq!(runtime.metrics().live_operations, 0, "the slot was lost");
    VALUE.with(|value| assert_eq!(Rc::strong_count(value), 1, "the result was lost"));
}

#[test]
fn a_waker_may_complete_its_operation_while_it_is_cloned() {
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        |_| {
            VALUE.with(complete_kept);
            RawWaker::new(std::ptr::null(), &TABLE)
        },
        |_| WOKEN.set(true),
        |_| WOKEN.set(true),
        |_| {},
    );
    thread_local! {
        static WOKEN: Cell<bool> = const { Cell::new(false) };
    }
    Runtime::new().unwrap().block_on(async {
        let (mut token, completion) = operation::<Rc<()>>();
        KEPT.set(Some(completion));
        // SAFETY: the table's functions accept any pointer on any thread.
        let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) };
        let polled = Pin::new(&mut token).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_ready() || WOKEN.get(), "nobody is told of the result");
        if polled.is_pending() {
            assert!(Rc::ptr_eq(&token.await, &VALUE.with(Rc::clone)));
        }
    });
}

/// A device that logs what it hears, and runs something when it is dropped.
#[derive(Default)]
struct Listener {
    id: Cell<Option<DeviceId>>,
    heard: Rc<RefCell<Vec<String>>>,
    at_end: Option<fn()>,
}

impl Listener {
    fn ending_with(end: fn()) -> Listener {
        Listener { id: Cell::default(), heard: Rc::default(), at_end: Some(end) }
    }
}

impl Device for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn attached(&self, id: DeviceId) {
        self.id.set(Some(id));
    }

    fn poll(&self, _: Turn) -> bool {
        false
    }

    fn interest(&self) -> Interest {
        Interest::None
    }

    fn cancel(&self, key: u64) {
        self.heard.borrow_mut().push(format!("cancel {key}"));
    }

    fn give_back(&self, key: u64, _: u32, _: Box<dyn Any>) {
        self.heard.borrow_mut().push(format!("back {key}"));
    }

    fn shutdown(&self, _: Duration) {}
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(end) = self.at_end {
            end();
        }
    }
}

/// A transport that has neither sockets nor files.
fn transport(device: Rc<Listener>) -> Transport {
    let mut transport = Transport::both(Memory::new(0)).without_network().without_storage();
    transport.device = device;
    transport
}

fn listening() -> (Runtime, Rc<Listener>) {
    let (runtime, device) = (Runtime::new().unwrap(), Rc::new(Listener::default()));
    runtime.attach(transport(device.clone()));
    (runtime, device)
}

fn start(device: &Listener, key: u64) -> (QToken<u32>, Completion<u32>) {
    let (token, completion) = operation();
    completion.on_cancel(device.id.get().unwrap(), key);
    (token, completion)
}

#[test]
fn tokens_of_a_former_runtime_mean_nothing_to_the_next_ones_devices() {
    let (runtime, device) = listening();
    let (pending, _promise, done) = runtime.block_on(async {
        let ((pending, promise), (done, completion)) = (start(&device, 1), start(&device, 2));
        completion.complete(5);
        drop(start(&device, 3).0);
        (pending, promise, done)
    });
    assert_eq!(*device.heard.borrow(), ["cancel 3"]);
    drop(runtime);
    let (runtime, device) = listening();
    runtime.block_on(async { drop((pending, done)) });
    assert!(device.heard.borrow().is_empty(), "{:?}", device.heard);
}

#[test]
fn operations_on_another_runtimes_device_mean_nothing_to_ones_own() {
    let (former, old) = listening();
    drop(former);
    let (_other, foreign) = listening();
    let (runtime, device) = listening();
    runtime.block_on(async {
        for of in [&old, &foreign] {
            drop(start(of, 1).0);
            let (token, completion) = start(of, 2);
            completion.complete(5);
            drop(token);
        }
        drop(start(&device, 3).0);
    });
    assert_eq!(*device.heard.borrow(), ["cancel 3"]);
}

thread_local! {
    static TIMER: RefCell<Option<demikernel_runtime::time::Sleep>> = const { RefCell::new(None) };
}

#[test]
fn a_device_may_start_timers_while_its_runtime_ends() {
    for _ in 0..2 {
        let device = Listener::ending_with(|| {
            let timer = sleep(Duration::from_millis(1));
            TIMER.set(Some(timer));
        });
        let runtime = Runtime::new().unwrap();
        runtime.attach(transport(Rc::new(device)));
        runtime.block_on(async { sleep(Duration::from_millis(1)).await });
        drop(runtime);
        // On the same core, whose wheel must not know the timer any more.
        Runtime::new().unwrap().block_on(async {
            let timer = sleep(Duration::from_millis(2));
            drop(TIMER.take());
            timer.await;
        });
    }
}

#[test]
fn a_scope_may_end_after_its_task_locals() {
    task_local! {
        static LOCAL: Rc<u32>;
    }
    thread_local! {
        // Made before the task-local's own thread-local, so dropped after it.
        static LAST: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
    }
    let dropped = Arc::new(());
    let witness = dropped.clone();
    std::thread::spawn(move || {
        LAST.with_borrow(|_| ());
        let scope = LOCAL.scope(Rc::new(1), async move {
            let _witness = witness;
            pending::<()>().await;
        });
        let mut scope = Box::pin(scope);
        Runtime::new().unwrap().block_on(poll_fn(|cx| {
            assert!(scope.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
        LAST.set(Some(scope));
    })
    .join()
    .unwrap();
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn a_panic_in_a_runtimes_end_leaves_the_thread_usable() {
    let device = Listener::ending_with(|| panic!("the device's"));
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport(Rc::new(device)));
    catch_unwind(AssertUnwindSafe(|| drop(runtime))).unwrap_err();
    assert_eq!(Runtime::new().unwrap().block_on(async { spawn(async { 5 }).await.unwrap() }), 5);
}
