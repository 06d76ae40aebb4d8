//! A peer that says anything: nothing panics, and what is sent is what was pushed, each octet with its number.

use super::lone::*;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::*;
use crate::wire::tcp::{Flags, SackBlock, Segment, SequenceNumber, Timestamps};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Duration;
use proptest::prelude::*;

/// What happens next. Numbers of the peer's segments are relative to what the connection has sent and expects.
#[derive(Clone, Debug)]
enum Step {
    Push(u16),
    Wait(u16),
    Transmit(u8),
    Receive,
    Arrives(Lie),
    /// An ICMP error about a segment in flight.
    TooBig(i16, u16),
    Path(u16),
    Shutdown,
    /// Segments that the device cuts.
    Cut(u32),
    /// Deadlines are kept, but what is to leave does not.
    Late(u16),
    /// The peer's SYN, or its answer to ours.
    Syn {
        answers: bool,
    },
}

/// How far the connection is when the story begins.
#[derive(Clone, Copy, Debug)]
enum Opening {
    Established,
    /// The peer's SYN has come.
    Passive,
    /// Nothing has happened.
    Active,
}

#[derive(Clone, Debug)]
struct Lie {
    flags: u8,
    sequence: i32,
    length: u16,
    /// In hundredths of what is in flight, so that most are within.
    acknowledgment: i16,
    blocks: Vec<(i16, i16)>,
    window: u16,
    /// How much older than the latest the echo is.
    echo: Option<u8>,
}

fn lie() -> impl Strategy<Value = Lie> {
    let flags = prop_oneof![
        12 => Just(0x10), 2 => Just(0x18), 2 => Just(0x50), 1 => Just(0x11), 1 => Just(0x90), 1 => Just(0x30),
        1 => any::<u8>().prop_map(|flags| flags & !0x04)
    ];
    let sequence = prop_oneof![8 => Just(0), 2 => -3000i32..3000, 1 => -80_000i32..80_000];
    let acknowledgment = prop_oneof![4 => 0i16..=100, 3 => Just(0), 2 => Just(100), 1 => -200i16..300];
    let block = (-20i16..130, 0i16..100).prop_map(|(left, length)| (left, left + length));
    let window = prop_oneof![4 => 1000u16..60_000, 1 => Just(0), 1 => any::<u16>()];
    (
        flags,
        sequence,
        prop_oneof![6 => Just(0u16), 2 => 1u16..3000],
        acknowledgment,
        prop::collection::vec(block, 0..4),
        window,
        prop::option::of(0u8..50),
    )
        .prop_map(|(flags, sequence, length, acknowledgment, blocks, window, echo)| Lie {
            flags,
            sequence,
            length,
            acknowledgment,
            blocks,
            window,
            echo,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..20_000).prop_map(Step::Push),
        2 => (0u16..600).prop_map(Step::Wait),
        6 => (1u8..20).prop_map(Step::Transmit),
        3 => Just(Step::Receive),
        12 => lie().prop_map(Step::Arrives),
        1 => (-10i16..110, 500u16..1100).prop_map(|(quoted, mtu)| Step::TooBig(quoted, mtu)),
        1 => (500u16..1600).prop_map(Step::Path),
        1 => Just(Step::Shutdown),
        1 => prop_oneof![Just(0u32), 1000u32..65_000].prop_map(Step::Cut),
        2 => prop_oneof![3 => 0u16..600, 1 => 0u16..10_000].prop_map(Step::Late),
        1 => any::<bool>().prop_map(|answers| Step::Syn { answers }),
    ]
}

fn opening() -> impl Strategy<Value = Opening> {
    prop_oneof![4 => Just(Opening::Established), 1 => Just(Opening::Passive), 1 => Just(Opening::Active)]
}

fn config() -> impl Strategy<Value = Config> {
    (any::<(bool, bool, bool)>(), 0u8..3).prop_map(|((timestamps, window_scaling, sack), which)| Config {
        timestamps,
        window_scaling,
        sack,
        congestion: [CongestionControl::Cubic, CongestionControl::Reno, CongestionControl::Bbr]
            [usize::from(which)],
        ..Config::default()
    })
}

/// The octet with this number, counted from the first.
fn octet(number: u32) -> u8 {
    (number ^ number >> 8) as u8
}

struct Liar {
    lone: Lone,
    pushed: u32,
    /// How far it has sent, counted from the first.
    sent: u32,
    received: u32,
    limits: Limits,
    /// What is plain leaves as the stack lets it leave.
    plain: bool,
}

impl Liar {
    fn new(config: Config, opening: Opening, plain: bool) -> Liar {
        let mut syn = "S 0:0(0) mss 1000".to_owned();
        for (is_on, option) in
            [(config.timestamps, " ts 1 0"), (config.sack, " sackok"), (config.window_scaling, " ws 3")]
        {
            if is_on {
                syn.push_str(option);
            }
        }
        let timestamps = config.timestamps;
        let lone = match opening {
            Opening::Active => Lone::connecting(config),
            Opening::Passive => Lone::accepting(config, &syn),
            Opening::Established => {
                let mut lone = Lone::accepting(config, &syn);
                lone.drain();
                lone.gets(if timestamps { ". 1:1(0) ack 1 ts 2 1" } else { ". 1:1(0) ack 1" });
                assert_eq!(lone.connection.state(), State::Established);
                lone
            }
        };
        Liar { lone, pushed: 0, sent: 0, received: 0, limits: Limits::default(), plain }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push(length) => {
                let bytes: Vec<u8> = (self.pushed..self.pushed + u32::from(*length)).map(octet).collect();
                let mut data = Sga::from(Buffer::from(bytes));
                if let Ok(taken) = self.lone.connection.send(self.lone.now, &mut data) {
                    self.pushed += taken as u32;
                }
            }
            Step::Wait(milliseconds) => self.wait(Duration::from_millis(u64::from(*milliseconds))),
            Step::Transmit(most) => self.transmit(*most),
            Step::Receive => drop(self.lone.receive_all()),
            Step::Arrives(lie) => self.arrives(lie),
            Step::TooBig(quoted, mtu) => {
                let quoted = self.number(*quoted);
                self.lone.connection.handle_too_big(self.lone.now, quoted, *mtu);
            }
            Step::Path(mtu) => self.lone.connection.handle_mtu(self.lone.now, *mtu),
            Step::Shutdown => drop(self.lone.connection.shutdown_write(self.lone.now)),
            Step::Cut(segmentation) => self.limits = Limits { segmentation: *segmentation },
            Step::Late(milliseconds) => {
                self.lone.now += Duration::from_millis(u64::from(*milliseconds));
                self.lone.connection.handle_deadline(self.lone.now);
            }
            Step::Syn { answers } => {
                let flags = if *answers { Flags::SYN | Flags::ACK } else { Flags::SYN };
                let sequence = SequenceNumber::new(THEIRS);
                let acknowledgment = SequenceNumber::new(OURS) + 1;
                self.gets(
                    Segment { sequence, acknowledgment, flags, window: 50_000, ..Segment::default() },
                    0,
                );
            }
        }
    }

    /// What leaves next, and its payload.
    fn poll(&mut self) -> Option<(Segment, Vec<u8>)> {
        let Lone { connection, now, .. } = &mut self.lone;
        if self.plain {
            let (local, remote) = (connection.local_port(), connection.remote_port());
            match connection.poll_plain(*now, u32::MAX) {
                Polled::Plain(plain, payload, _) => {
                    return Some((plain.segment(local, remote), payload.to_vec()));
                }
                Polled::Nothing => return None,
                Polled::Other => {}
            }
            if self.limits.segmentation == 0
                && let Some((plain, payload, _)) = connection.poll_full(*now)
            {
                return Some((plain.segment(local, remote), payload.to_vec()));
            }
        }
        let transmit = connection.poll_transmit(*now, &self.limits)?;
        Some((transmit.segment, transmit.payload.to_vec()))
    }

    fn transmit(&mut self, most: u8) {
        for _ in 0..most {
            let Some((segment, payload)) = self.poll() else { return };
            let first = segment.sequence.value().wrapping_sub(OURS).wrapping_sub(1);
            if segment.flags.contains(Flags::SYN) {
                assert_eq!((first.wrapping_add(1), payload.len()), (0, 0), "the number of a SYN");
            }
            let mut number = first;
            for byte in payload {
                assert!(number < self.pushed, "{number} of {}", self.pushed);
                assert_eq!(byte, octet(number), "{number}");
                number += 1;
            }
            if number != first {
                self.sent = self.sent.max(number);
            }
            if segment.flags.contains(Flags::ACK) {
                self.received = segment.acknowledgment.value().wrapping_sub(THEIRS);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.lone.now + time;
        let mut count = 0;
        while let Some(deadline) = self.lone.connection.next_deadline().filter(|deadline| *deadline <= end) {
            self.lone.now = self.lone.now.max(deadline);
            self.lone.connection.handle_deadline(self.lone.now);
            self.transmit(3);
            count += 1;
            assert!(count < 10_000, "time stands still");
        }
        self.lone.now = end;
    }

    /// The number that is so many hundredths into what is in flight.
    fn number(&self, hundredths: i16) -> SequenceNumber {
        let first = self.lone.connection.info(self.lone.now).bytes_acked as u32;
        let flight = self.sent.saturating_sub(first) as i32;
        let offset = i32::from(hundredths) * flight / 100;
        SequenceNumber::new(OURS.wrapping_add(1).wrapping_add(first).wrapping_add_signed(offset))
    }

    fn arrives(&mut self, lie: &Lie) {
        let mut segment = Segment {
            sequence: SequenceNumber::new(
                THEIRS.wrapping_add(self.received).wrapping_add_signed(lie.sequence),
            ),
            acknowledgment: self.number(lie.acknowledgment),
            flags: Flags::from_bits(lie.flags),
            window: lie.window,
            ..Segment::default()
        };
        for (left, right) in &lie.blocks {
            segment.options.sack.push(SackBlock { left: self.number(*left), right: self.number(*right) });
        }
        segment.options.timestamps = lie.echo.map(|echo| Timestamps {
            value: self.lone.now.as_nanos() as u32 / 1_000_000,
            echo: (self.lone.now.as_nanos() / 1_000_000) as u32 - u32::from(echo),
        });
        self.gets(segment, lie.length);
    }

    fn gets(&mut self, segment: Segment, length: u16) {
        let segment = Segment { source: 2000, destination: 1000, ..segment };
        let payload = Buffer::from(vec![0; usize::from(length)]);
        self.lone.connection.handle_segment(self.lone.now, &segment, payload, Ecn::NotCapable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_peer_says_what_is_sent_is_what_was_pushed(
        config in config(),
        opening in opening(),
        plain in any::<bool>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut liar = Liar::new(config, opening, plain);
        for step in &steps {
            liar.step(step);
        }
    }
}
