//! What is fuzzed with libFuzzer (`net/fuzz`), run over the committed corpus and over what is made of it by chance: as
//! much as a stable compiler and a few seconds allow.

mod targets;

use demikernel_net::tcp::{Origin, State};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use targets::{config, dhcp, host, link, wire};

/// Inputs of each target that are made by chance.
const CASES: u32 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

/// Inputs that the fuzzer found: each does what no other does.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no corpus in {}", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One way to make an input of others.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, u8),
    /// The rest is that of another input.
    Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Change> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(place, byte)| Change::Set(place, byte)),
            (place(), 0..8u8).prop_map(|(place, bit)| Change::Flip(place, bit)),
            (place(), prop::collection::vec(any::<u8>(), 1..8))
                .prop_map(|(place, bytes)| Change::Insert(place, bytes)),
            (place(), 1..8u8).prop_map(|(place, count)| Change::Remove(place, count)),
            (place(), place(), place()).prop_map(|(place, other, from)| Change::Splice(place, other, from)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Change::Set(place, byte) => bytes[place.index(length)] = *byte,
            Change::Flip(place, bit) => bytes[place.index(length)] ^= 1 << bit,
            Change::Insert(place, new) => {
                let place = place.index(length);
                bytes.splice(place..place, new.iter().copied());
            }
            Change::Remove(place, count) => {
                let place = place.index(length);
                bytes.drain(place..length.min(place + usize::from(*count)));
            }
            Change::Splice(place, other, from) => {
                let other = other.get(corpus);
                bytes.truncate(place.index(length));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

fn check(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    for input in &corpus {
        catch_unwind(AssertUnwindSafe(|| run(input))).unwrap_or_else(|panic| {
            eprintln!("{target}: {input:?}");
            resume_unwind(panic);
        });
    }
    let strategy = (any::<prop::sample::Index>(), prop::collection::vec(Change::any(), 1..6));
    let config = Config { failure_persistence: None, ..Config::with_cases(CASES) };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, random).run(&strategy, |(which, changes)| {
        let mut input = which.get(&corpus).clone();
        changes.iter().for_each(|change| change.apply(&mut input, &corpus));
        run(&input);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn wire_formats() {
    check("wire", wire::run);
}

#[test]
fn hosts_in_every_state() {
    check("host", host::run);
}

#[test]
fn stacks_on_an_ethernet() {
    check("link", link::run);
}

#[test]
fn configurations() {
    check("config", config::run);
}

#[test]
fn dhcp_messages() {
    check("dhcp", dhcp::run);
}

/// What the name of the target promises.
#[test]
fn a_host_begins_in_each_state() {
    let expected = [
        None,
        Some(State::SynSent),
        Some(State::SynReceived(Origin::Active)),
        None,
        Some(State::Established),
        Some(State::Established),
        Some(State::FinWait1),
        Some(State::FinWait2),
        Some(State::Closing),
        Some(State::TimeWait),
        Some(State::CloseWait),
        Some(State::LastAck),
    ];
    for flags in [0, 0x1f] {
        let states: Vec<_> = (0..host::STARTS)
            .map(|start| {
                let mut world = host::World::new(&mut targets::input::Input::new(&[flags, 100]));
                world.enter(start);
                world.state()
            })
            .collect();
        assert_eq!(states, expected);
    }
}
