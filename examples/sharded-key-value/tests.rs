//! Cores that ask each other, without sockets.

use super::cores::{Core, Wiring};
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

/// A client that adds one to each key, in requests of several keys at once.
async fn add(core: Rc<Core>) {
    for _ in 0..ROUNDS {
        let answers = core.ask((0..KEYS).map(|index| Op::Add(key(index), 1)).collect()).await;
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Integer(1..))));
    }
}

async fn run(core: Rc<Core>) {
    let serving = core.clone().serve_others();
    let clients: Vec<_> = (0..4).map(|_| spawn(add(core.clone()))).collect();
    for client in clients {
        client.await.unwrap();
    }
    // Until all cores' clients are done, each of which asks as often.
    let all = 4 * CORES as i64 * ROUNDS;
    let expected: Vec<_> = (0..KEYS).map(|_| Answer::Value(Some(all.to_string().into_bytes()))).collect();
    while core.ask((0..KEYS).map(|index| Op::Get(key(index))).collect()).await != expected {
        yield_now().await;
    }
    // In one request: what has no key is the sum, and all is in order.
    let own = format!("of core {}", core_index()).into_bytes();
    let ops = vec![Op::Set(own.clone(), b"1".to_vec()), Op::Size, Op::Get(own.clone()), Op::Delete(own)];
    let answers = core.ask(ops).await;
    assert_eq!(answers[0], Answer::Done);
    assert!(matches!(answers[1], Answer::Integer(size) if (51..=53).contains(&size)), "{answers:?}");
    assert_eq!(answers[2..], [Answer::Value(Some(b"1".to_vec())), Answer::Integer(1)]);
    core.ask_no_more();
    serving.await.unwrap();
}

#[test]
fn cores_answer_each_other_until_none_asks() {
    let wiring = Wiring::new(CORES);
    let code = Builder::new().transport("memory").cores(CORES).run(move || run(wiring.core()));
    assert_eq!(code, ExitCode::SUCCESS);
}
