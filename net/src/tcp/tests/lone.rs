//! One connection, and a script that plays its peer.
//!
//! Segments are written as tcpdump does, with numbers relative to the SYNs: `P. 1:5(4) ack 1 win 1000`. Options are
//! `ts VALUE ECHO`, `sack LEFT-RIGHT`, `mss N`, `ws N`, `sackok`, `uto FIELD`; what is not named is absent.

use std::rc::Rc;

use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::{Duration, Instant};

use crate::tcp::*;
use crate::wire::tcp::{Flags, SackBlock, Segment, SequenceNumber, Timestamps};

/// The first number of the connection, and of its peer: near the end, so that both wrap.
pub(super) const OURS: u32 = u32::MAX - 3;
pub(super) const THEIRS: u32 = u32::MAX - 100;

pub(super) struct Lone {
    pub(super) now: Instant,
    pub(super) connection: Connection,
    pub(super) shared: Rc<Shared>,
    pub(super) last: Option<Transmit>,
    /// What the peer says if a line does not.
    pub(super) window: u16,
    /// No segment is predicted.
    pub(super) unpredicted: bool,
}

/// No options but the size of segments, so that scripts are short.
pub(super) fn plain() -> Config {
    let mut config = Config { timestamps: false, window_scaling: false, sack: false, ..Config::default() };
    config.receive_buffer = 60_000;
    config
}

pub(super) fn start() -> Start {
    let initial = InitialNumbers { sequence: SequenceNumber::new(OURS), timestamp_offset: 0 };
    Start { local: 1000, remote: 2000, initial, mtu: 1040, ip_header: 20 }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);

impl Lone {
    pub(super) fn connecting(config: Config) -> Lone {
        let shared = Rc::new(Shared::new(config));
        let now = Instant::from_nanos(1_000_000_000_000);
        let connection = Connection::connect(shared.clone(), now, start());
        Lone { now, connection, shared, last: None, window: 50_000, unpredicted: false }
    }

    pub(super) fn accepting(config: Config, syn: &str) -> Lone {
        let shared = Rc::new(Shared::new(config));
        let now = Instant::from_nanos(1_000_000_000_000);
        let (syn, _) = parse(syn, 50_000);
        let connection = Connection::accept(shared.clone(), now, start(), &syn);
        Lone { now, connection, shared, last: None, window: 50_000, unpredicted: false }
    }

    /// Established, by its own SYN; quick acknowledgments are over.
    pub(super) fn established(config: Config) -> Lone {
        let mut lone = Lone::connecting(config);
        lone.sends(&["S 0:0(0)"]);
        lone.gets("S. 0:0(0) ack 1 mss 1000");
        lone.sends(&[". 1:1(0) ack 1"]);
        assert_eq!(lone.connection.state(), State::Established);
        lone.connection.take_events();
        lone.connection.receive.quick = 0;
        lone
    }

    /// In a state, with nothing to send.
    pub(super) fn in_state(state: State) -> Lone {
        let mut lone = match state {
            State::SynSent => Lone::connecting(plain()),
            State::SynReceived(Origin::Passive) => Lone::accepting(plain(), "S 0:0(0) mss 1000"),
            State::SynReceived(Origin::Active) => Lone::connecting(plain()),
            _ => Lone::established(plain()),
        };
        match state {
            State::SynReceived(Origin::Active) => {
                lone.drain();
                lone.gets("S 0:0(0) mss 1000");
            }
            State::FinWait1 => lone.shutdown(),
            State::FinWait2 => {
                lone.shutdown();
                lone.drain();
                lone.gets(". 1:1(0) ack 2");
            }
            State::CloseWait => lone.gets("F. 1:1(0) ack 1"),
            State::Closing => {
                lone.shutdown();
                lone.drain();
                lone.gets("F. 1:1(0) ack 1");
            }
            State::LastAck => {
                lone.gets("F. 1:1(0) ack 1");
                lone.drain();
                lone.shutdown();
            }
            State::TimeWait => {
                lone.shutdown();
                lone.drain();
                lone.gets("F. 1:1(0) ack 2");
            }
            _ => {}
        }
        lone.drain();
        assert_eq!(lone.connection.state(), state);
        lone.connection.take_events();
        lone
    }

    pub(super) fn shutdown(&mut self) {
        self.connection.shutdown_write(self.now).expect("it is connected");
    }

    pub(super) fn send(&mut self, octets: usize) -> usize {
        let mut data = Sga::from(Buffer::from(vec![b'x'; octets]));
        self.connection.send(self.now, &mut data).expect("it is connected")
    }

    pub(super) fn gets(&mut self, line: &str) {
        self.gets_marked(line, Ecn::NotCapable);
    }

    pub(super) fn gets_marked(&mut self, line: &str, ecn: Ecn) {
        let (segment, length) = parse(line, self.window);
        let first = segment.sequence.value().wrapping_sub(THEIRS);
        let payload: Vec<u8> = (0..length).map(|offset| (first + offset) as u8).collect();
        if self.unpredicted {
            self.connection.segment_arrives(self.now, &segment, payload.into(), ecn);
        } else {
            self.connection.handle_segment(self.now, &segment, payload.into(), ecn);
        }
    }

    /// All that it sends now.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(transmit) = self.connection.poll_transmit(self.now, &Limits::default()) {
            lines.push(line(&transmit));
            self.last = Some(transmit);
            assert!(lines.len() < 1000, "it sends for ever");
        }
        lines
    }

    #[track_caller]
    pub(super) fn sends(&mut self, lines: &[&str]) {
        assert_eq!(self.drain(), lines);
    }

    /// Time passes, deadlines are kept, and what is sent meanwhile is told with the milliseconds.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<String> {
        let (begin, end) = (self.now, self.now + time);
        let mut lines: Vec<_> = self.drain().into_iter().map(|line| format!("0: {line}")).collect();
        while let Some(deadline) = self.connection.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.connection.handle_deadline(self.now);
            let passed = self.now.duration_since(begin).as_millis();
            lines.extend(self.drain().into_iter().map(|line| format!("{passed}: {line}")));
            assert!(lines.len() < 1000, "it sends for ever");
        }
        self.now = end;
        lines
    }

    /// The header that left last.
    #[track_caller]
    pub(super) fn header(&self) -> &Segment {
        &self.last.as_ref().expect("something was sent").segment
    }

    pub(super) fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Receiving::Data(buffer)) = self.connection.receive(self.now, usize::MAX) {
            bytes.extend_from_slice(&buffer);
        }
        bytes
    }
}

/// As the peer sees it.
pub(super) fn line(transmit: &Transmit) -> String {
    use std::fmt::Write as _;
    let segment = &transmit.segment;
    let sequence = segment.sequence.value().wrapping_sub(OURS);
    let length = transmit.payload.len() as u32;
    let mut line = format!("{:?} {}:{}({length})", segment.flags, sequence, sequence.wrapping_add(length));
    if segment.flags.contains(Flags::ACK) {
        write!(line, " ack {}", segment.acknowledgment.value().wrapping_sub(THEIRS))
            .expect("a string takes all");
    }
    for block in segment.options.sack.iter() {
        let relative = |number: SequenceNumber| number.value().wrapping_sub(THEIRS);
        write!(line, " sack {}-{}", relative(block.left), relative(block.right)).expect("a string takes all");
    }
    line
}

fn parse(line: &str, window: u16) -> (Segment, u32) {
    let mut words = line.split_whitespace();
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok()).expect(line);
    let mut flags = Flags::NONE;
    for letter in words.next().expect(line).chars() {
        flags |= match letter {
            'F' => Flags::FIN,
            'S' => Flags::SYN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            'U' => Flags::URG,
            'E' => Flags::ECE,
            'W' => Flags::CWR,
            'n' => Flags::NONE,
            _ => panic!("{line}"),
        };
    }
    let mut parts = words.next().expect(line).split([':', '(', ')']);
    let sequence = SequenceNumber::new(THEIRS) + number(parts.next());
    let length = number(parts.nth(1));
    let mut segment =
        Segment { source: 2000, destination: 1000, sequence, flags, window, ..Segment::default() };
    while let Some(word) = words.next() {
        match word {
            "ack" => segment.acknowledgment = SequenceNumber::new(OURS) + number(words.next()),
            "win" => segment.window = number(words.next()) as u16,
            "mss" => segment.options.maximum_segment_size = Some(number(words.next()) as u16),
            "ws" => segment.options.window_scale = Some(number(words.next()) as u8),
            "uto" => segment.options.user_timeout = Some(number(words.next()) as u16),
            "sackok" => segment.options.sack_permitted = true,
            "ts" => {
                let value = number(words.next());
                let echo = number(words.next());
                segment.options.timestamps = Some(Timestamps { value, echo });
            }
            "sack" => {
                let mut ends = words.next().expect(line).split('-');
                let left = SequenceNumber::new(OURS) + number(ends.next());
                let right = SequenceNumber::new(OURS) + number(ends.next());
                assert!(segment.options.sack.push(SackBlock { left, right }));
            }
            _ => panic!("{line}"),
        }
    }
    (segment, length)
}
