//! Random programs on random hosts: each byte is delivered once and in order, in the pieces that it was pushed in or
//! smaller; nothing waits for ever; at the end everything is free.
//!
//! `DEMIKERNEL_SEED=N` runs one seed, `DEMIKERNEL_SEEDS=N` as many.

use super::random::Random;
use super::world::{End, World};
use crate::link::{Event, Failure, Id, LinkConfig};
use demikernel_runtime::buffer::{Buffer, Sga};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What may happen in a run.
#[derive(Clone, Copy)]
struct Rules {
    /// Connections break, or programs give them up.
    breaks: bool,
    /// There are hardly more buffers than the connections have a right to.
    tight: bool,
}

/// What the program at one end does.
struct Program {
    /// Lengths of the messages to push.
    to_push: Vec<usize>,
    pushed: u64,
    /// Where messages end in the stream that this side sends.
    ends: Vec<u64>,
    finished: bool,
    received: u64,
    /// It has received the end, or an error.
    done: Option<Result<(), ErrorKind>>,
    closed: bool,
    /// It closes without waiting for the peer's end.
    hasty: bool,
    /// One in so many chances is taken.
    lazy: u64,
    /// Chances to end the direction that it lets pass.
    pause: u64,
    /// It was told to wait, and nothing has happened since.
    push_waits: bool,
    receive_waits: bool,
}

impl Program {
    fn new(random: &mut Random, rules: Rules) -> Program {
        let count = if random.one_in(4) { 0 } else { random.below(20) };
        let large = random.one_in(3);
        let length = |random: &mut Random| 1 + random.below(if large { 3000 } else { 60 }) as usize;
        Program {
            to_push: (0..count).map(|_| length(random)).collect(),
            pushed: 0,
            ends: Vec::new(),
            finished: false,
            received: 0,
            done: None,
            closed: false,
            hasty: rules.breaks && random.one_in(6),
            lazy: 1 + random.below(6),
            pause: if random.one_in(2) { random.below(60) } else { 0 },
            push_waits: false,
            receive_waits: false,
        }
    }
}

/// The byte at a place of a stream.
fn byte_at(end: End, place: u64) -> u8 {
    (place
        .wrapping_mul(31)
        .wrapping_add(place >> 8)
        .wrapping_add(u64::from(end.1.index()) * 7 + end.0 as u64)) as u8
}

struct Run {
    world: World,
    rules: Rules,
    programs: BTreeMap<End, Program>,
    listeners: Vec<Id>,
    /// Both ends agree on how the connection ended only if nobody broke it.
    broken: Vec<End>,
}

impl Run {
    fn new(seed: u64, rules: Rules) -> Run {
        let mut random = Random::new(!seed);
        let hosts = 2 + random.below(3) as usize;
        let connections = 1 + random.below(12) as u32;
        let config = |random: &mut Random| {
            let floor = 1 + random.below(3) as u16;
            // One end of each connection may be here. An eighth is never given to those who want more.
            let rights = connections * u32::from(floor + 2);
            let more = if rules.tight { rights / 7 + random.below(12) as u32 } else { rights + 200 };
            LinkConfig {
                buffers: rights + more,
                buffer_size: 64 + random.below(500) as u32,
                floor,
                window: 1 + random.below(40) as u16,
                send_depth: 4 + random.below(20) as u16,
                pieces: 1 + random.below(4) as u16,
                small: random.below(200) as u32,
                inline: random.below(200) as u32,
                queue: 1 + random.below(4000) as usize,
                ..LinkConfig::default()
            }
        };
        let configs = (0..hosts).map(|_| config(&mut random)).collect();
        let mut world = World::new(seed, configs);
        if rules.tight {
            for host in &mut world.hosts {
                host.refill = 1 + random.below(4);
            }
        }
        let listeners = world.hosts.iter_mut().map(|host| host.link.listen(100)).collect();
        let mut run = Run { world, rules, programs: BTreeMap::new(), listeners, broken: Vec::new() };
        for _ in 0..connections {
            let (from, to) = (random.below(hosts as u64) as usize, random.below(hosts as u64) as usize);
            if from != to {
                let id = run.world.connect(from, to, run.listeners[to]).unwrap();
                run.start((from, id));
            }
        }
        run
    }

    fn start(&mut self, end: End) {
        let program = Program::new(&mut self.world.random, self.rules);
        assert!(self.programs.insert(end, program).is_none());
    }

    /// Runs to the end; how often connections waited for the pool, and others were asked for what they did not use.
    fn run(mut self) -> (u64, u64) {
        for step in 0.. {
            assert!(step < 200_000, "it does not end");
            for host in 0..self.world.hosts.len() {
                for event in self.world.turn(host) {
                    match event {
                        Event::Listener(listener) => {
                            while let Ok(id) = self.world.hosts[host].link.accept(listener) {
                                self.start((host, id));
                            }
                        }
                        Event::Connection(id) => {
                            if let Some(program) = self.programs.get_mut(&(host, id)) {
                                (program.push_waits, program.receive_waits) = (false, false);
                            }
                        }
                    }
                }
            }
            let mut any = false;
            for end in self.programs.keys().copied().collect::<Vec<_>>() {
                any |= self.act(end);
            }
            if !self.world.advance() && !any && self.world.is_quiet() {
                break;
            }
        }
        for (end, program) in &self.programs {
            assert!(
                program.closed,
                "{end:?} is stuck: {} pushed, {} received",
                program.pushed, program.received
            );
        }
        let mut counted = (0, 0);
        for host in &self.world.hosts {
            host.link.assert_empty();
            let counters = host.link.counters();
            assert_eq!(counters.violations, 0, "both sides keep to the protocol");
            counted = (counted.0 + counters.starved, counted.1 + counters.recalls);
        }
        counted
    }

    /// Has a program do something, if it can; whether it has work left that it may do by itself.
    fn act(&mut self, end: End) -> bool {
        let mut program = self.programs.remove(&end).unwrap();
        let chosen = self.world.random.one_in(program.lazy);
        let any = !program.closed && (self.acts(end, &mut program, chosen) || !chosen);
        self.programs.insert(end, program);
        any
    }

    fn acts(&mut self, end: End, program: &mut Program, chosen: bool) -> bool {
        if !chosen {
            return false;
        }
        if self.rules.breaks && self.world.random.one_in(400) {
            self.give_up(end, program);
            return true;
        }
        let any = self.push(end, program) | self.receive(end, program);
        let link = &mut self.world.hosts[end.0].link;
        let is_over = program.done.is_some() && program.finished;
        if is_over || program.hasty && program.finished {
            link.close(self.world.now, end.1);
            program.closed = true;
        }
        any || program.closed
    }

    fn give_up(&mut self, end: End, program: &mut Program) {
        self.broken.extend([Some(end), self.world.peer_of(end)].into_iter().flatten());
        match self.world.random.below(3) {
            0 => self.world.break_now(end, Failure::TimedOut),
            1 => self.world.break_now(end, Failure::Reset),
            _ => {
                self.world.hosts[end.0].link.abort(end.1);
                program.closed = true;
            }
        }
    }

    fn push(&mut self, end: End, program: &mut Program) -> bool {
        if program.finished || program.push_waits {
            return false;
        }
        let link = &mut self.world.hosts[end.0].link;
        let Some(&length) = program.to_push.last() else {
            if program.pause > 0 && program.done.is_none() {
                program.pause -= 1;
                return true;
            }
            // Ended or not there yet: then it is tried again, or the receiving side tells.
            program.finished = link.finish(end.1).is_ok() || program.done.is_some();
            program.push_waits = !program.finished;
            return program.finished;
        };
        let bytes: Vec<u8> = (0..length as u64).map(|at| byte_at(end, program.pushed + at)).collect();
        let mut message = Sga::new();
        for piece in bytes.chunks(1 + self.world.random.below(length as u64) as usize) {
            message.push(Buffer::copy_from_slice(piece).unwrap());
        }
        match link.send(end.1, &mut message) {
            Ok(()) => {
                assert!(message.is_empty());
                program.to_push.pop();
                program.pushed += length as u64;
                program.ends.push(program.pushed);
                true
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    || error.kind() == ErrorKind::NotConnected && program.done.is_none() =>
            {
                program.push_waits = true;
                false
            }
            Err(_) => {
                assert!(self.rules.breaks, "nothing has broken");
                program.finished = true;
                true
            }
        }
    }

    fn receive(&mut self, end: End, program: &mut Program) -> bool {
        if program.done.is_some() || program.receive_waits {
            return false;
        }
        let limit = 1 + self.world.random.below(3000) as usize;
        let received = self.world.hosts[end.0].link.receive(end.1, limit);
        match received {
            Ok(data) if data.is_empty() => program.done = Some(Ok(())),
            Ok(data) => return self.check_data(end, program, &data),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) => {
                program.receive_waits = true;
                return false;
            }
            Err(error) => {
                assert!(self.rules.breaks, "nothing has broken: {error}");
                program.done = Some(Err(error.kind()));
            }
        }
        program.push_waits = false;
        if program.done == Some(Ok(()))
            && let Some(peer) = self.world.peer_of(end)
        {
            let sent = self.programs.get(&peer).map(|peer| (peer.pushed, peer.to_push.len()));
            if let Some((pushed, left)) = sent
                && !self.broken.contains(&end)
                && (left == 0 || !self.rules.breaks)
            {
                assert_eq!((program.received, left), (pushed, 0), "the end came before all data");
            }
        }
        true
    }

    /// Whether data are what the peer has pushed, and of one of its messages.
    fn check_data(&mut self, end: End, program: &mut Program, data: &Buffer) -> bool {
        let peer = self.world.peer_of(end).expect("it is connected");
        let from = program.received;
        for (at, byte) in data.iter().enumerate() {
            assert_eq!(*byte, byte_at(peer, from + at as u64), "byte {} of {end:?}", from + at as u64);
        }
        program.received += data.len() as u64;
        let sender = &self.programs[&peer];
        assert!(program.received <= sender.pushed);
        assert!(
            !sender.ends.iter().any(|&boundary| boundary > from && boundary < program.received),
            "{from}..{} is of two messages",
            program.received
        );
        true
    }
}

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("DEMIKERNEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("DEMIKERNEL_SEEDS").unwrap_or(count)).collect(),
    }
}

/// Runs them all; how often there was scarcity, and credits were asked back.
fn run_seeds(count: u64, rules: Rules) -> (u64, u64) {
    let mut sum = (0, 0);
    for seed in seeds(count) {
        let outcome = std::panic::catch_unwind(|| Run::new(seed, rules).run());
        let Ok((starved, recalls)) = outcome else {
            panic!("seed {seed} fails: DEMIKERNEL_SEED={seed} repeats it");
        };
        sum = (sum.0 + starved, sum.1 + recalls);
    }
    sum
}

#[test]
fn programs_get_what_was_sent() {
    run_seeds(100, Rules { breaks: false, tight: false });
}

#[test]
fn programs_get_what_was_sent_with_hardly_any_buffers() {
    let (starved, recalls) = run_seeds(100, Rules { breaks: false, tight: true });
    let is_one = std::env::var_os("DEMIKERNEL_SEED").is_some();
    assert!(is_one || starved > 0 && recalls > 0, "there is no scarcity: {starved} {recalls}");
}

#[test]
fn connections_break_at_any_step() {
    run_seeds(100, Rules { breaks: true, tight: false });
}

#[test]
fn connections_break_at_any_step_with_hardly_any_buffers() {
    run_seeds(100, Rules { breaks: true, tight: true });
}
