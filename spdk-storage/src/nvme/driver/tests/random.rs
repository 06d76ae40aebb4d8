//! Random programs on random controllers, beside a copy in memory. A test that fails says its seed: `DEMIKERNEL_SEED`
//! repeats it, `DEMIKERNEL_SEEDS=1000` looks for another.

use super::*;
use crate::nvme::command::Submission;
use demikernel_runtime::QToken;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations under way at once, each on a part of the namespace of its own.
const PARTS: usize = 12;
const PART: usize = 128 << 10;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    fn one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match variable("DEMIKERNEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("DEMIKERNEL_SEEDS").unwrap_or(count),
    }
}

fn bench(random: &mut Random, timeout: Duration) -> (Bench, usize) {
    let block = random.of(&[512, 4096]);
    let settings = Settings {
        mdts: random.of(&[0, 1, 2, 5]),
        queue_entries: random.of(&[2, 3, 8, 64]),
        sgls: random.one_in(2),
        atomic_write: random.of(&[0, 3]),
        namespaces: vec![(block as u32, (PARTS * PART / block) as u64)],
        shuffle: random.one_in(2).then_some(random.0),
        ..Settings::default()
    };
    let depth = random.of(&[1, 2, 7, 32]);
    (Bench::with(settings, Options { depth, timeout }), block)
}

/// A piece of data in memory of one kind or another.
fn piece(random: &mut Random, content: &[u8]) -> Buffer {
    match random.below(6) {
        0 => Buffer::from(content.to_vec()),
        kind => {
            let headroom = [0, 0, 4, 512, 1022][kind - 1];
            let mut buffer = BufferMut::with_headroom(headroom, content.len()).unwrap();
            buffer.extend_from_slice(content);
            buffer.freeze()
        }
    }
}

fn pieces(random: &mut Random, content: &[u8], block: usize) -> Sga {
    let mut rest = content;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let cut = match random.below(4) {
            0 => rest.len(),
            // Not whole blocks.
            1 if random.one_in(4) => 1 + random.below(rest.len()),
            _ => block * (1 + random.below(rest.len() / block + 1)),
        };
        let (now, later) = rest.split_at(cut.min(rest.len()));
        pieces.push(piece(random, now));
        rest = later;
    }
    pieces.into_iter().collect()
}

/// What an operation on a part does to the copy.
enum Effect {
    Written(usize, Vec<u8>),
    Read(usize, QToken<io::Result<BufferMut>>),
}

/// A part, of which nothing is known after a write that failed.
struct Part {
    at: usize,
    content: Option<Vec<u8>>,
}

impl Part {
    fn range(random: &mut Random, block: usize) -> (usize, usize) {
        let blocks = 1 + random.below(PART / block);
        let blocks = if random.one_in(3) { blocks } else { blocks.min(1 + random.below(16)) };
        (random.below(PART / block - blocks + 1) * block, blocks * block)
    }

    fn start(
        &self,
        random: &mut Random,
        volume: &Volume,
        block: usize,
    ) -> (Option<QToken<io::Result<()>>>, Effect) {
        let (offset, length) = match self.content {
            Some(_) => Part::range(random, block),
            None => (0, PART),
        };
        let at = (self.at + offset) as u64;
        match random.below(5) {
            0 | 1 if self.content.is_some() => (None, Effect::Read(offset, volume.read(at, length))),
            2 => (Some(volume.write_zeroes(at, length as u64)), Effect::Written(offset, vec![0; length])),
            _ => {
                let content = pattern(random.below(1 << 30), length);
                let token = volume.write(at, pieces(random, &content, block));
                (Some(token), Effect::Written(offset, content))
            }
        }
    }

    async fn end(&mut self, token: Option<QToken<io::Result<()>>>, effect: Effect) -> u64 {
        match effect {
            Effect::Read(offset, token) => match token.await {
                Ok(read) => {
                    let content = self.content.as_ref().unwrap();
                    assert!(
                        read == content[offset..][..read.len()],
                        "other bytes in the part at {}",
                        self.at
                    );
                    0
                }
                Err(_) => 1,
            },
            Effect::Written(offset, bytes) => {
                if token.unwrap().await.is_err() {
                    self.content = None;
                    return 1;
                }
                self.content.get_or_insert_with(|| vec![0; PART])[offset..][..bytes.len()]
                    .copy_from_slice(&bytes);
                0
            }
        }
    }
}

async fn program(random: &mut Random, volume: &Volume, block: usize, rounds: usize) -> u64 {
    let mut parts: Vec<_> =
        (0..PARTS).map(|index| Part { at: index * PART, content: Some(vec![0; PART]) }).collect();
    let mut failed = 0;
    for _ in 0..rounds {
        let started: Vec<_> = parts.iter().map(|part| part.start(random, volume, block)).collect();
        for (part, (token, effect)) in parts.iter_mut().zip(started) {
            failed += part.end(token, effect).await;
        }
    }
    failed
}

#[test]
fn random_programs_find_what_they_wrote() {
    for seed in seeds(60) {
        println!("DEMIKERNEL_SEED={seed}");
        let mut random = Random(seed);
        let (bench, block) = bench(&mut random, Duration::from_secs(10));
        bench.run(async |_, volume| {
            assert_eq!(program(&mut random, &volume, block, 20).await, 0);
        });
    }
}

#[test]
fn random_programs_survive_errors_silence_and_resets() {
    let mut failed = 0;
    for seed in seeds(20) {
        println!("DEMIKERNEL_SEED={seed}");
        let mut random = Random(seed);
        let (bench, block) = bench(&mut random, Duration::from_millis(16));
        let (rate, faults) = (random.of(&[100, 1000]), AtomicU64::new(random.0));
        let left = AtomicU64::new(8);
        let script = move |_, command: &Submission| {
            let mut random = Random(faults.load(Ordering::Relaxed));
            let reaction = match random.below(rate) {
                _ if left.load(Ordering::Relaxed) == 0 => Reaction::Perform,
                0 => Reaction::Ignore,
                1 | 2 if command.opcode < 3 => Reaction::Fail(UNRECOVERED_READ),
                _ => Reaction::Perform,
            };
            if reaction == Reaction::Ignore {
                left.fetch_sub(1, Ordering::Relaxed);
            }
            faults.store(random.0, Ordering::Relaxed);
            reaction
        };
        bench.run(async |bench, volume| {
            bench.double.set_script(script);
            failed += program(&mut random, &volume, block, 20).await;
        });
    }
    assert!(failed > 0);
}
