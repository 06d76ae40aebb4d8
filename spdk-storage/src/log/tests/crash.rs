//! Crashes at every step, with every kind of loss: what was acknowledged is there, and nothing else than what was pushed.

use super::*;
use crate::memory::Loss;
use demikernel_runtime::random::Random;

/// How many random programs are run, and how many crashes they suffer at least in all.
const SEEDS: u64 = 220;
const CRASHES: usize = 100_000;

/// What is known of a log.
#[derive(Clone, Default)]
struct Known {
    /// Everything that was pushed, in order, by number.
    records: Vec<Vec<u8>>,
    /// So many of them are durable at least.
    durable: usize,
    /// The head is between these.
    head: (u64, u64),
}

/// What somebody waits for.
#[derive(Clone, Copy)]
enum Waits {
    Push {
        log: usize,
        sync: Sync,
    },
    /// Everything that had been pushed before.
    Sync {
        log: usize,
        count: usize,
    },
    Truncate {
        log: usize,
        head: u64,
    },
}

struct World {
    store: Store,
    known: Vec<Known>,
    waits: BTreeMap<Ticket, Waits>,
    crashes: usize,
    random: Random,
}

/// So many logs stand before those that are used: with them superblocks are longer than a block, and may be torn.
const EMPTY: usize = 3;

/// The place of a log in the table.
fn place(log: usize) -> usize {
    EMPTY + log
}

fn name(log: usize) -> String {
    format!("log {log}")
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed, 2);
        let block = if random.chance(0.8) { 512 } else { 4096 };
        let segment = block * (2 + random.below(4) as u32);
        let device = Geometry { durable_writes: random.chance(0.5), ..Geometry::new(block, 0) };
        let disk = formatted_on(device, segment, 6 + random.below(8) as u32);
        let mut store = Store::open(&disk);
        let known = vec![Known::default(); 1 + random.below(3) as usize];
        for empty in 0..EMPTY {
            store.create(&format!("empty {empty}"));
        }
        for log in 0..known.len() {
            assert_eq!(store.create(&name(log)), place(log));
        }
        World { store, known, waits: BTreeMap::new(), crashes: 0, random }
    }

    /// Asks for something.
    fn ask(&mut self) {
        let log = self.random.below(self.known.len() as u64) as usize;
        match self.random.below(20) {
            0..=11 => self.push(log, Sync::Durable),
            12..=14 => self.push(log, Sync::Written),
            15 => {
                let ticket = self.store.sync(place(log));
                self.waits.insert(ticket, Waits::Sync { log, count: self.known[log].records.len() });
            }
            _ => {
                let (head, count) = (self.known[log].head.1, self.known[log].durable as u64);
                let head = head.max(head + self.random.below(count.saturating_sub(head) + 1));
                let ticket = self.store.change(Change::Truncate(place(log), head));
                self.known[log].head.1 = head;
                self.waits.insert(ticket, Waits::Truncate { log, head });
            }
        }
        self.hear();
    }

    fn push(&mut self, log: usize, sync: Sync) {
        let most = self.store.engine.longest_record() as u64;
        let length = match self.random.below(8) {
            0 => self.random.below(most + 1),
            1 => 0,
            _ => self.random.below(200.min(most)),
        };
        let data: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        let ticket = self.store.push(place(log), &data, sync);
        self.known[log].records.push(data);
        self.waits.insert(ticket, Waits::Push { log, sync });
    }

    /// Takes in what is over.
    fn hear(&mut self) {
        while let Some((ticket, result)) = self.store.over.pop_first() {
            let Some(waits) = self.waits.remove(&ticket) else { continue };
            match (waits, result) {
                (Waits::Push { log, sync: Sync::Durable }, Ok(Outcome::Appended(appended))) => {
                    let known = &mut self.known[log];
                    known.durable = known.durable.max(appended.number as usize + 1);
                }
                (Waits::Push { .. }, Ok(Outcome::Appended(_))) => {}
                (Waits::Sync { log, count }, Ok(_)) => {
                    self.known[log].durable = self.known[log].durable.max(count);
                }
                (Waits::Truncate { log, head }, Ok(_)) => {
                    self.known[log].head.0 = self.known[log].head.0.max(head);
                }
                (_, Err(LogError::Full)) => unreachable!("refused ones are taken out by `refused`"),
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    /// A push that found no room has no number, and those behind it move up.
    fn refused(&mut self) {
        let full = |result: &Result<Outcome>| matches!(result, Err(LogError::Full));
        let refused: Vec<Ticket> =
            self.store.over.iter().filter(|(_, result)| full(result)).map(|(ticket, _)| *ticket).collect();
        for ticket in refused.into_iter().rev() {
            self.store.over.remove(&ticket);
            let Some(Waits::Push { log, .. }) = self.waits.remove(&ticket) else {
                panic!("only pushes need room")
            };
            // Of all pushes of its log those behind it have not been heard of either.
            let later = self.waits.range(ticket..).filter(|(_, waits)| is_push(waits, log)).count();
            let records = &mut self.known[log].records;
            let gone = records.len() - 1 - later;
            records.remove(gone);
            for (_, waits) in self.waits.range_mut(ticket..) {
                if let Waits::Sync { log: other, count } = waits
                    && *other == log
                {
                    *count -= 1;
                }
            }
        }
    }

    /// One step of the device, with crashes before it.
    fn step(&mut self) -> bool {
        for loss in self.losses() {
            self.crash(loss);
        }
        let any = self.store.step();
        self.refused();
        self.hear();
        any
    }

    fn losses(&mut self) -> Vec<Loss> {
        if self.store.disk.unflushed() == 0 {
            return vec![Loss::Everything];
        }
        let mut losses = vec![Loss::Everything, Loss::Nothing];
        losses.extend((0..3).map(|_| Loss::Some(self.random.next())));
        losses
    }

    /// What would be if there were a crash now.
    fn crash(&mut self, loss: Loss) {
        self.crashes += 1;
        let disk = self.store.disk.fork();
        disk.crash(loss);
        let recovered = recover(&disk).unwrap();
        let engine = Engine::read_only(recovered);
        self.check(&engine, &disk);
        if self.random.chance(0.02) {
            // It goes on as well as any other.
            let mut store = Store::open(&disk);
            let log = self.random.below(self.known.len() as u64) as usize;
            let before = store.engine.logs[place(log)].readable;
            if let Ok(appended) = store.append(place(log), b"the first one after the crash") {
                assert_eq!(appended.number, before);
                let (records, holes) = store.read(place(log));
                assert_eq!(records.last().unwrap().data, b"the first one after the crash");
                assert!(holes.is_empty());
            }
        }
    }

    /// Everything that is known of the logs is so.
    fn check(&self, engine: &Engine<Ticket>, disk: &Disk) {
        for (log, known) in self.known.iter().enumerate() {
            let at = engine.find(&name(log)).expect("the log had been made");
            let (head, next) = (engine.logs[at].head, engine.logs[at].readable);
            assert!((known.head.0..=known.head.1).contains(&head), "{head} {:?}", known.head);
            assert!(next >= known.durable as u64, "{next} records of {} that are durable", known.durable);
            assert!(next <= known.records.len() as u64, "{next} records of {}", known.records.len());
            let (records, holes) = read_all(engine, disk, at);
            assert_eq!(holes, []);
            assert_eq!(records.len() as u64, next - head);
            for (number, record) in (head..).zip(records) {
                assert_eq!(record.number, number);
                assert_eq!(record.data, known.records[number as usize], "record {number}");
            }
        }
    }

    /// There is a crash now: of the machine, or of the process alone, which leaves the cache as it is.
    fn restart(&mut self, loss: Option<Loss>) {
        let disk = self.store.disk.clone();
        if let Some(loss) = loss {
            disk.crash(loss);
        }
        self.waits.clear();
        let recovered = recover(&disk).unwrap();
        for (log, known) in self.known.iter_mut().enumerate() {
            let at = recovered.superblock.logs.iter().position(|entry| entry.name == name(log)).unwrap();
            let (entry, next) = (&recovered.superblock.logs[at], recovered.logs[at].next_number as usize);
            assert!((known.durable..=known.records.len()).contains(&next));
            // From now on what was found stays, durable or not. A crash before the mount is done may lose it still.
            known.records.truncate(next);
            known.head.1 = entry.head;
        }
        self.store = Store::begin(&disk, recovered);
        while self.step() {}
        let (disk, engine) = (&self.store.disk, &self.store.engine);
        self.known
            .iter_mut()
            .enumerate()
            .for_each(|(log, known)| known.durable = engine.logs[log].readable as usize);
        self.check(&Engine::read_only(recover(disk).unwrap()), disk);
    }
}

fn is_push(waits: &Waits, log: usize) -> bool {
    matches!(waits, Waits::Push { log: other, .. } if *other == log)
}

fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    for _ in 0..6 {
        let steps = 5 + world.random.below(30);
        for _ in 0..steps {
            (0..world.random.below(4)).for_each(|_| world.ask());
            world.step();
        }
        let loss = match world.random.below(6) {
            0 => Some(Loss::Everything),
            1 => Some(Loss::Nothing),
            2 | 3 => None,
            _ => Some(Loss::Some(world.random.next())),
        };
        world.restart(loss);
    }
    world.crashes
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let seeds = std::env::var("DEMIKERNEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let first = std::env::var("DEMIKERNEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut crashes = 0;
    for seed in first.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(count) => crashes += count,
            Err(panic) => {
                eprintln!("DEMIKERNEL_SEED={seed} repeats it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{crashes} crashes");
    assert!(first.is_some() || crashes >= CRASHES, "only {crashes}");
}
