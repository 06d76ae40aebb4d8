//! Spans of tasks and operations: what a subscriber gets, and what Perfetto reads.

use demikernel_runtime::{Runtime, operation, spawn, time, yield_now};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_chrome::{ChromeLayerBuilder, TraceStyle};
use tracing_subscriber::prelude::*;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The events of a trace of what `program` does.
fn trace(style: TraceStyle, program: impl AsyncFnOnce()) -> Vec<serde_json::Value> {
    let output = Output::default();
    let builder = ChromeLayerBuilder::new().writer(output.clone()).include_args(true).trace_style(style);
    let (layer, guard) = builder.build();
    let runtime = Runtime::new().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        runtime.block_on(program());
    });
    drop(guard);
    let text = output.0.lock().unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn count(events: &[serde_json::Value], phase: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == phase) {
        *counts.entry(event["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

async fn program() {
    let (token, completion) = operation::<u32>();
    let waits = spawn(token);
    let sleeps = spawn(async {
        time::sleep(Duration::from_millis(5)).await;
        yield_now().await;
    });
    yield_now().await;
    completion.complete(1);
    assert_eq!(waits.await.unwrap(), 1);
    sleeps.await.unwrap();
    // The end of what is given up is an end, too.
    let (token, completion) = operation::<u8>();
    drop((token, completion));
    time::timeout(Duration::from_secs(9), std::future::ready(())).await.unwrap();
}

#[test]
fn tasks_and_operations_begin_and_end() {
    let events = trace(TraceStyle::Async, program);
    let (begins, ends) = (count(&events, "b"), count(&events, "e"));
    assert_eq!((begins.get("task"), begins.get("operation")), (Some(&2), Some(&2)), "{events:?}");
    assert!(begins["timer"] >= 1, "{events:?}");
    assert_eq!(begins, ends, "{events:?}");
    let shown = |key: &str, value: &str| {
        events.iter().any(|event| event["args"][key].as_str().is_some_and(|text| text.contains(value)))
    };
    assert!(shown("spawned", "tests/spans.rs:"), "{events:?}");
    let took = |phase: &str| {
        let event = events.iter().find(|event| event["ph"] == phase && event["name"] == "timer").unwrap();
        event["ts"].as_f64().unwrap()
    };
    assert!(took("e") - took("b") >= 4_000.0, "microseconds: {events:?}");
}

#[test]
fn each_poll_of_a_task_is_a_slice_of_its_thread() {
    let events = trace(TraceStyle::Threaded, program);
    let begins = count(&events, "B");
    // One polls twice, the other three times.
    assert_eq!(begins.get("task"), Some(&5), "{events:?}");
    assert_eq!(begins.get("task"), count(&events, "E").get("task"));
}
