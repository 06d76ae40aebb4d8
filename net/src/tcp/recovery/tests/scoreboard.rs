//! The scoreboard against a model that knows each unit of ten octets by itself.

use demikernel_runtime::time::Instant;
use proptest::prelude::*;

use super::super::records::{Delivery, Marks, Record, Scoreboard};
use crate::wire::tcp::SequenceNumber;

const UNIT: u32 = 10;

#[derive(Clone, Debug)]
enum Operation {
    Send(u32),
    Acknowledge(u32),
    Sack(u32, u32),
    Resend(u32, u32),
    Lose(u32),
    LoseHead(u32),
    FindAgain,
    Forget,
}

#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Unit {
    sacked: bool,
    lost: bool,
    resent: bool,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (1..7u32).prop_map(Operation::Send),
        3 => (0..40u32).prop_map(Operation::Acknowledge),
        4 => (0..60u32, 1..12u32).prop_map(|(from, length)| Operation::Sack(from, length)),
        3 => (0..60u32, 1..12u32).prop_map(|(from, length)| Operation::Resend(from, length)),
        3 => (0..60u32).prop_map(Operation::Lose),
        1 => (1..4u32).prop_map(Operation::LoseHead),
        1 => Just(Operation::FindAgain),
        1 => Just(Operation::Forget),
    ]
}

fn record(start: SequenceNumber, length: u32) -> Record {
    let now = Instant::from_nanos(1);
    Record {
        start,
        length,
        sent: now,
        first_sent: now,
        delivered_at: now,
        delivered: 0,
        marks: Marks::default(),
    }
}

/// So many octets are sent.
fn add(board: &mut Scoreboard, length: u32) {
    let record = record(board.next, length);
    board.next = record.end();
    board.push(record);
}

/// The units a record covers.
fn span(board: &Scoreboard, index: usize) -> std::ops::Range<usize> {
    let record = board.get(index).expect("the index is of a record");
    let from = ((record.start - board.unacknowledged) / UNIT) as usize;
    from..from + (record.length / UNIT) as usize
}

fn apply(operation: &Operation, board: &mut Scoreboard, model: &mut Vec<Unit>) {
    let at = |unit: u32| board.unacknowledged + unit * UNIT;
    let most = model.len() as u32;
    let mut delivery = Delivery::default();
    match *operation {
        Operation::Send(units) => {
            add(board, units * UNIT);
            model.extend((0..units).map(|_| Unit::default()));
        }
        Operation::Acknowledge(units) => {
            let units = units.min(most);
            let new = model.drain(..units as usize).filter(|unit| !unit.sacked).count() as u32;
            board.acknowledge(at(units), &mut delivery);
            board.seek_lost();
            assert_eq!((delivery.acked, delivery.delivered), (units * UNIT, new * UNIT));
        }
        Operation::Sack(from, length) => {
            let (from, to) = (from.min(most), (from + length).min(most));
            board.sack(at(from), at(to), UNIT, &mut delivery);
            let mut new = 0;
            for unit in &mut model[from as usize..to as usize] {
                new += u32::from(!unit.sacked);
                (unit.sacked, unit.lost) = (true, false);
            }
            board.seek_lost();
            assert_eq!((delivery.sacked, delivery.delivered), (new * UNIT, new * UNIT));
        }
        Operation::Resend(from, length) => {
            let (from, to) = (from.min(most), (from + length).min(most));
            if from < to {
                board.resend(at(from), (to - from) * UNIT, &record(at(0), 0));
            }
            for unit in &mut model[from as usize..to as usize] {
                (unit.lost, unit.resent) = (false, true);
            }
        }
        Operation::Lose(unit) if unit < most => {
            let index = board.find(at(unit));
            board.lose(index);
            for unit in &mut model[span(board, index)] {
                unit.lost = !unit.sacked;
            }
        }
        Operation::Lose(_) => {}
        Operation::LoseHead(units) => {
            board.lose_head(units * UNIT);
            if !board.is_empty() {
                let head = span(board, 0);
                assert!(head.len() as u32 <= units);
                for unit in &mut model[head] {
                    unit.lost = !unit.sacked;
                }
            }
        }
        Operation::FindAgain => {
            board.find_again();
            model.iter_mut().for_each(|unit| unit.lost = false);
        }
        Operation::Forget => {
            board.forget_sacked();
            model.iter_mut().for_each(|unit| unit.sacked = false);
        }
    }
}

fn compare(board: &Scoreboard, model: &[Unit]) {
    let octets = |is: fn(&Unit) -> bool| model.iter().filter(|unit| is(unit)).count() as u32 * UNIT;
    assert_eq!(board.outstanding(), octets(|_| true));
    assert_eq!(board.sacked, octets(|unit| unit.sacked));
    assert_eq!(board.lost, octets(|unit| unit.lost));
    assert_eq!(board.retransmitted, octets(|unit| unit.resent && !unit.sacked && !unit.lost));
    assert_eq!(board.in_flight(), octets(|unit| !unit.sacked && !unit.lost));
    let first = model.iter().position(|unit| unit.lost).map(|at| board.unacknowledged + at as u32 * UNIT);
    assert_eq!(board.first_lost().map(|record| record.start), first);
    let (mut at, mut ambiguous) = (board.unacknowledged, 0);
    for index in 0..board.len() {
        let record = board.get(index).expect("the index is of a record");
        assert_eq!(record.start, at, "no gaps");
        at = record.end();
        ambiguous += u32::from(record.marks.has(Marks::RETRANSMITTED));
        let unit = Unit {
            sacked: record.marks.has(Marks::SACKED),
            lost: record.marks.has(Marks::LOST),
            resent: record.marks.has(Marks::RETRANSMITTED),
        };
        assert!(model[span(board, index)].iter().all(|model| *model == unit), "record {index}");
    }
    assert_eq!(at, board.next);
    assert_eq!(ambiguous, board.ambiguous);
}

proptest! {
    #[test]
    fn it_agrees_with_the_model(
        first in any::<u32>(),
        operations in proptest::collection::vec(operation(), 1..80),
    ) {
        let mut board = Scoreboard::new(SequenceNumber::new(first));
        let mut model = Vec::new();
        for operation in &operations {
            apply(operation, &mut board, &mut model);
            compare(&board, &model);
        }
    }

    /// A peer that acknowledges single octets makes no more records than there are segments.
    #[test]
    fn blocks_of_octets_do_not_break_records_up(
        blocks in proptest::collection::vec((0..60_000u32, 1..3_000u32), 1..200),
    ) {
        let first = SequenceNumber::new(0);
        let mut board = Scoreboard::new(first);
        add(&mut board, 60_000);
        for (from, length) in blocks {
            let right = (first + from + length).earliest(board.next);
            board.sack(first + from, right, 1_000, &mut Delivery::default());
        }
        prop_assert!(board.len() <= 60);
        prop_assert_eq!(board.sacked % 1_000, 0);
    }
}
