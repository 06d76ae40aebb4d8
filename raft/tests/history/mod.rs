//! What clients have asked and were answered, and whether one store could have answered so.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What is asked of a key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Op {
    Get,
    Set(i64),
    Increment,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Answer {
    Done,
    Value(Option<i64>),
}

/// What became of a request.
#[derive(PartialEq, Debug)]
pub(crate) enum Outcome {
    Answered(Answer),
    /// It was not carried out: another node is the leader, at this address, or none is.
    Refused(Option<String>),
    /// Nobody knows.
    Unknown,
}

/// A key, as one store would have it.
#[derive(Clone, Default, Debug)]
struct Key(Option<i64>);

impl SequentialSpec for Key {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        match *op {
            Op::Get => Answer::Value(self.0),
            Op::Set(value) => {
                self.0 = Some(value);
                Answer::Done
            }
            Op::Increment => {
                self.0 = Some(self.0.unwrap_or(0) + 1);
                Answer::Value(self.0)
            }
        }
    }
}

/// The history of all keys. What is right of each is right of all.
#[derive(Default)]
pub(crate) struct History {
    keys: RefCell<BTreeMap<u64, LinearizabilityTester<u64, Key>>>,
    pub(crate) answered: Cell<usize>,
    pub(crate) unknown: Cell<usize>,
}

impl History {
    /// A client asks. One that waits for an answer asks nothing else.
    pub(crate) fn ask(&self, client: u64, key: u64, op: Op) {
        let mut keys = self.keys.borrow_mut();
        let key = keys.entry(key).or_insert_with(|| LinearizabilityTester::new(Key::default()));
        key.on_invoke(client, op).unwrap();
    }

    pub(crate) fn answer(&self, client: u64, key: u64, answer: Answer) {
        self.answered.set(self.answered.get() + 1);
        self.keys.borrow_mut().get_mut(&key).unwrap().on_return(client, answer).unwrap();
    }

    /// The client is never answered. From now on it is another.
    pub(crate) fn give_up(&self) {
        self.unknown.set(self.unknown.get() + 1);
    }

    /// That there is an order in which one store would have answered so.
    pub(crate) fn check(&self) {
        for (key, history) in &*self.keys.borrow() {
            assert!(history.serialized_history().is_some(), "key {key} is not linearizable: {history:#?}");
        }
    }
}

/// A request in the Redis protocol.
pub(crate) fn request(key: u64, op: Op) -> String {
    match op {
        Op::Get => format!("GET key-{key}\r\n"),
        Op::Set(value) => format!("SET key-{key} {value}\r\n"),
        Op::Increment => format!("INCR key-{key}\r\n"),
    }
}

/// The outcome that a reply says, if it is whole.
pub(crate) fn outcome(reply: &str) -> Option<Outcome> {
    let (line, rest) = reply.split_once("\r\n")?;
    let (kind, text) = line.split_at(1);
    Some(match kind {
        "+" => Outcome::Answered(Answer::Done),
        ":" => Outcome::Answered(Answer::Value(Some(text.parse().unwrap()))),
        "$" if text == "-1" => Outcome::Answered(Answer::Value(None)),
        "$" => Outcome::Answered(Answer::Value(Some(rest.split_once("\r\n")?.0.parse().unwrap()))),
        "-" if text.starts_with("MOVED ") => Outcome::Refused(text.split(' ').nth(2).map(str::to_owned)),
        "-" if text.starts_with("CLUSTERDOWN") => Outcome::Refused(None),
        "-" if text.starts_with("UNKNOWN") || text.starts_with("TIMEOUT") => Outcome::Unknown,
        _ => panic!("an unexpected reply: {reply:?}"),
    })
}

#[test]
fn a_lost_write_is_found() {
    let history = History::default();
    for (op, answer) in [(Op::Increment, Some(1)), (Op::Increment, Some(2)), (Op::Get, Some(1))] {
        history.ask(1, 0, op);
        history.answer(1, 0, Answer::Value(answer));
    }
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.check()));
    assert!(checked.is_err());
}
