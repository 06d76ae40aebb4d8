//! Cores that ask each other, without sockets.

use super::cores::{Asking, Core, Wiring};
use super::shard::{Answer, Op};
use demikernel::{Builder, core_index, spawn, yield_now};
use std::process::ExitCode;
use std::rc::Rc;

const CORES: usize = 3;
const KEYS: usize = 50;
const ROUNDS: i64 = 40;

fn key(index: usize) -> Vec<u8> {
    format!("key-{index}").into_bytes()
}

/// Asks that of each key, and hands each answer to `look`; whether it says yes to all.
async fn ask_all(
    core: &Core,
    asking: &mut Asking,
    op: fn(&[u8]) -> Op<'_>,
    look: impl Fn(Answer<'_>) -> bool,
) -> bool {
    asking.clear();
    (0..KEYS).for_each(|index| asking.push(core, op(&key(index))));
    core.ask(asking).await;
    (0..KEYS).all(|_| look(asking.next()))
}

/// A client that adds one to each key, in requests of several keys at once.
async fn add(core: Rc<Core>) {
    let mut asking = Asking::new(&core);
    for _ in 0..ROUNDS {
        let is_sum = |answer: Answer<'_>| matches!(answer, Answer::Integer(1..));
        assert!(ask_all(&core, &mut asking, |key| Op::Add(key, 1), is_sum).await);
    }
}

async fn run(core: Rc<Core>) {
    let serving = core.clone().serve_others();
    let clients: Vec<_> = (0..4).map(|_| spawn(add(core.clone()))).collect();
    for client in clients {
        client.await.unwrap();
    }
    // Until all cores' clients are done, each of which asks as often.
    let all = (4 * CORES as i64 * ROUNDS).to_string();
    let mut asking = Asking::new(&core);
    let is_all = |answer: Answer<'_>| answer == Answer::Value(Some(all.as_bytes()));
    while !ask_all(&core, &mut asking, |key| Op::Get(key), is_all).await {
        yield_now().await;
    }
    // In one request: what has no key is the sum, and all is in order.
    let own = format!("of core {}", core_index()).into_bytes();
    asking.clear();
    for op in [
        Op::Set(&own, b"1"),
        Op::Set(&own, b"twenty"),
        Op::Size,
        Op::Get(&own),
        Op::Add(&own, 1),
        Op::Delete(&own),
    ] {
        asking.push(&core, op);
    }
    core.ask(&mut asking).await;
    assert_eq!(asking.next(), Answer::Done);
    assert_eq!(asking.next(), Answer::Done);
    let size = asking.next();
    assert!(matches!(size, Answer::Integer(51..=53)), "{size:?}");
    assert_eq!(asking.next(), Answer::Value(Some(b"twenty")));
    assert_eq!(asking.next(), Answer::NotAnInteger);
    assert_eq!(asking.next(), Answer::Integer(1));
    core.ask_no_more();
    serving.await.unwrap();
}

#[test]
fn cores_answer_each_other_until_none_asks() {
    let wiring = Wiring::new(CORES);
    let code = Builder::new().transport("memory").cores(CORES).run(move || run(wiring.core()));
    assert_eq!(code, ExitCode::SUCCESS);
}
