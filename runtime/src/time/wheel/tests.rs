//! The wheel against a list of what ought to be in it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Nodes that stay where they are until the end of a test, as operation slots do.
struct Nodes(Vec<NonNull<TimerNode>>);

impl Nodes {
    fn new(count: usize) -> Nodes {
        Nodes((0..count).map(|_| NonNull::from(Box::leak(Box::new(TimerNode::new())))).collect())
    }

    fn index(&self, node: NonNull<TimerNode>) -> usize {
        self.0.iter().position(|other| *other == node).expect("a node of this test")
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &self.0 {
            // SAFETY: they come from boxes, and the tests let their wheels go first or never look at them again.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}

/// A wheel and its nodes, by index.
struct Bench {
    wheel: Wheel,
    nodes: Nodes,
}

impl Bench {
    fn new(now: u64, nodes: usize) -> Bench {
        Bench { wheel: Wheel::new(now), nodes: Nodes::new(nodes) }
    }

    fn insert(&mut self, index: usize, when: u64) {
        // SAFETY: nodes outlive the wheel's use, stay where they are, and tests do not insert one twice.
        unsafe { self.wheel.insert(self.nodes.0[index], when) }
    }

    fn remove(&mut self, index: usize) -> bool {
        // SAFETY: there is only one wheel.
        unsafe { self.wheel.remove(self.nodes.0[index]) }
    }

    fn expire(&mut self, now: u64) -> Option<usize> {
        self.wheel.expire(now).map(|node| self.nodes.index(node))
    }

    fn expire_all(&mut self, now: u64) -> Vec<usize> {
        std::iter::from_fn(|| self.expire(now)).collect()
    }

    /// What the documentation of [`Wheel`] says about it.
    fn check_invariants(&self) {
        let wheel = &self.wheel;
        let mut len = 0;
        for (bucket, first) in wheel.heads.iter().enumerate() {
            let (level, digit) = (bucket / BUCKETS, bucket % BUCKETS);
            assert_eq!(wheel.levels.occupancy[level] >> digit & 1 == 0, first.is_null());
            let shift = level as u32 * DIGIT;
            for node in self.list(*first) {
                len += 1;
                assert_eq!(node.bucket as usize, bucket);
                assert!(wheel.horizon <= node.when);
                if level == LEVELS {
                    continue;
                }
                let tick = (node.when >> TICK).max(wheel.levels.tick);
                assert_eq!(tick >> shift >> DIGIT, wheel.levels.tick >> shift >> DIGIT);
                assert_eq!((tick >> shift) as usize % BUCKETS, digit);
                assert!(level == 0 || tick >> shift > wheel.levels.tick >> shift);
                assert!(level == 0 || wheel.horizon <= tick >> shift << shift << TICK);
            }
        }
        for level in 0..=LEVELS {
            assert_eq!(wheel.levels.levels >> level & 1 == 0, wheel.levels.occupancy[level] == 0);
        }
        assert_eq!(wheel.len, len);
    }

    /// The nodes of a circular list, after a look at both links of each.
    fn list(&self, first: *mut TimerNode) -> Vec<&TimerNode> {
        let mut list = vec![];
        let mut node = first;
        while !first.is_null() && (list.is_empty() || node != first) {
            assert!(list.len() < self.nodes.0.len(), "it is not circular");
            // SAFETY: nodes in the lists are valid, and nobody writes to them meanwhile.
            unsafe {
                assert_eq!((*(*node).next).prev, node);
                list.push(&*node);
                node = (*node).next;
            }
        }
        list
    }

    /// Goes from one deadline of the wheel to the next until it is empty: the times, and what expired then.
    fn park_until_empty(&mut self) -> Vec<(u64, Vec<usize>)> {
        let mut story = vec![];
        while let Some(at) = self.wheel.next_deadline() {
            assert!(story.len() < 1000, "it wakes up without end");
            story.push((at, self.expire_all(at)));
        }
        story
    }
}

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

#[test]
fn a_timer_expires_at_its_nanosecond_and_not_before() {
    for when in [1, 1023, 1024, 70_000, 5 * MS, 900 * MS, 600 * SECOND, u64::MAX / 2, u64::MAX] {
        let mut bench = Bench::new(0, 1);
        bench.insert(0, when);
        assert_eq!(bench.wheel.next_deadline(), Some(when));
        assert_eq!(bench.expire(when - 1), None, "{when}");
        assert_eq!(bench.wheel.next_deadline(), Some(when));
        assert_eq!(bench.expire(when), Some(0), "{when}");
        assert!(bench.wheel.is_empty());
        assert_eq!(bench.wheel.next_deadline(), None);
    }
}

#[test]
fn an_overdue_timer_expires_at_once() {
    let mut bench = Bench::new(SECOND, 2);
    bench.insert(0, 0);
    bench.insert(1, SECOND);
    assert!(bench.wheel.next_deadline().is_some_and(|at| at <= SECOND));
    assert_eq!(bench.expire_all(SECOND), [0, 1]);
}

#[test]
fn timers_of_a_tick_expire_in_the_order_of_insertion_whatever_level_they_came_from() {
    let when = 900 * MS;
    let mut bench = Bench::new(0, 6);
    for (index, early) in [800 * MS, 100 * MS, 3 * MS, 50_000, 500, 0].into_iter().enumerate() {
        assert_eq!(bench.expire(when - early - 1), None);
        bench.insert(index, when);
    }
    assert_eq!(bench.expire_all(when), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn ticks_expire_in_their_order() {
    let mut bench = Bench::new(0, 4);
    for (index, when) in [40 * SECOND, 3 * MS, 20 * MS, 1].into_iter().enumerate() {
        bench.insert(index, when);
    }
    assert_eq!(bench.expire_all(u64::MAX), [3, 1, 2, 0]);
}

#[test]
fn a_removed_timer_does_not_expire() {
    let mut bench = Bench::new(0, 3);
    for index in 0..3 {
        bench.insert(index, 5 * MS);
    }
    assert!(bench.remove(1));
    assert!(!bench.remove(1));
    assert_eq!(bench.expire_all(5 * MS), [0, 2]);
    assert!(!bench.remove(0));
}

#[test]
fn a_timer_that_is_due_but_not_yet_taken_can_be_removed() {
    let mut bench = Bench::new(0, 3);
    for index in 0..3 {
        bench.insert(index, 100);
    }
    assert_eq!(bench.expire(100), Some(0));
    assert_eq!(bench.wheel.next_deadline(), Some(100));
    assert!(bench.remove(1));
    assert_eq!(bench.expire_all(100), [2]);
}

#[test]
fn a_park_wakes_up_for_deadlines_only() {
    let mut bench = Bench::new(0, 4);
    for (index, when) in [100, 5 * MS, 10 * SECOND, 3600 * SECOND].into_iter().enumerate() {
        bench.insert(index, when);
    }
    let story = bench.park_until_empty();
    assert_eq!(story, [(100, vec![0]), (5 * MS, vec![1]), (10 * SECOND, vec![2]), (3600 * SECOND, vec![3])]);
}

#[test]
fn a_crowded_far_bucket_costs_at_most_one_wake_up_per_level() {
    let mut bench = Bench::new(0, 100);
    for index in 0..100 {
        bench.insert(index, 3600 * SECOND + index as u64);
    }
    let story = bench.park_until_empty();
    let in_vain = story.iter().filter(|(_, expired)| expired.is_empty()).count();
    assert!(in_vain <= LEVELS, "{in_vain} wake-ups in vain");
    assert_eq!(story.len(), 100 + in_vain);
    assert!(
        story.iter().all(|(at, expired)| expired.iter().all(|index| *at == 3600 * SECOND + *index as u64))
    );
}

#[test]
fn a_cancelled_timeout_costs_no_wake_up() {
    let mut bench = Bench::new(0, 2);
    bench.insert(0, 30 * MS);
    bench.insert(1, 50 * MS);
    bench.remove(0);
    assert_eq!(bench.park_until_empty(), [(50 * MS, vec![1])]);
}

#[test]
fn timers_that_are_almost_due_are_not_searched_again_for_each_that_is() {
    // Quadratic work would take minutes here.
    const HALF: usize = 50_000;
    let mut wheel = Wheel::new(0);
    let mut nodes: Vec<_> = (0..2 * HALF).map(|_| TimerNode::new()).collect();
    let base = nodes.as_mut_ptr();
    for index in 0..2 * HALF {
        // SAFETY: within the vector, which does not grow, and is only accessed through `base` from here on.
        unsafe { wheel.insert(NonNull::new_unchecked(base.add(index)), 1000 + (index < HALF) as u64) }
    }
    let mut count = 0;
    while wheel.expire(1000).is_some() {
        count += 1;
    }
    assert_eq!((count, wheel.len), (HALF, HALF));
}

#[test]
fn a_bucket_that_begins_within_the_current_tick_moves_down_before_others_come() {
    let border = 64 << TICK;
    let mut bench = Bench::new(0, 2);
    bench.insert(0, border + 500);
    assert_eq!(bench.expire(border + 100), None);
    bench.insert(1, border + 400);
    bench.check_invariants();
    assert_eq!(bench.expire_all(border + 1000), [0, 1]);
}

/// What a test does to the wheel.
#[derive(Clone, Debug)]
enum Step {
    /// Inserts a node this far from now; if it is in, after taking it out.
    Insert(usize, i64),
    InsertAt(usize, u64),
    /// Inserts a node so far after the next multiple of a power of two.
    InsertAtBorder(usize, u32, u64),
    Remove(usize),
    /// Lets time pass, and takes what is due.
    Advance(u64),
    /// Lets time pass until so long after the next multiple of a power of two.
    AdvanceToBorder(u32, u64),
    /// Lets time pass, and takes only so many.
    Some(u64, usize),
    /// Lets time pass until the next deadline.
    Park,
}

const NODES: usize = 40;

/// Spans of time of every magnitude, and those next to the borders of digits.
fn span() -> impl Strategy<Value = u64> {
    let near_border = (0u32..63, -2i64..3).prop_map(|(bit, off)| (1u64 << bit).saturating_add_signed(off));
    let magnitude = (0u32..44, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1));
    prop_oneof![near_border, magnitude.clone(), magnitude, 0u64..3000]
}

fn step() -> impl Strategy<Value = Step> {
    let extreme = prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()];
    prop_oneof![
        6 => (0..NODES, span()).prop_map(|(node, span)| Step::Insert(node, span as i64)),
        4 => (0..NODES, -2000i64..70_000).prop_map(|(node, off)| Step::Insert(node, off)),
        1 => (0..NODES, extreme).prop_map(|(node, when)| Step::InsertAt(node, when)),
        3 => (0..NODES).prop_map(Step::Remove),
        2 => (0..NODES, 10u32..30, 0u64..1100).prop_map(|(node, bit, off)| Step::InsertAtBorder(node, bit, off)),
        3 => (0u64..200_000).prop_map(Step::Advance),
        1 => (10u32..30, 0u64..1100).prop_map(|(bit, off)| Step::AdvanceToBorder(bit, off)),
        1 => span().prop_map(Step::Advance),
        2 => (0u64..100_000, 0usize..4).prop_map(|(by, most)| Step::Some(by, most)),
        4 => Just(Step::Park),
    ]
}

/// What ought to be in the wheel: deadlines by the tick in which they expire, and the order of insertion.
#[derive(Default)]
struct Model {
    timers: BTreeMap<(u64, usize), (usize, u64)>,
    keys: BTreeMap<usize, (u64, usize)>,
    inserted: usize,
}

impl Model {
    fn insert(&mut self, node: usize, when: u64, current_tick: u64) {
        self.inserted += 1;
        let key = ((when >> TICK).max(current_tick), self.inserted);
        self.timers.insert(key, (node, when));
        self.keys.insert(node, key);
    }

    fn remove(&mut self, node: usize) -> Option<u64> {
        let key = self.keys.remove(&node)?;
        self.timers.remove(&key).map(|(_, when)| when)
    }

    fn due(&self, now: u64) -> Vec<usize> {
        self.timers.values().filter(|(_, when)| *when <= now).map(|(node, _)| *node).collect()
    }

    fn earliest(&self) -> Option<u64> {
        self.timers.values().map(|(_, when)| *when).min()
    }
}

/// A wheel and a model that are treated alike.
struct Pair {
    bench: Bench,
    model: Model,
    now: u64,
    /// Whether due timers were left in the wheel, so that later ones may be behind them.
    left_some: bool,
}

impl Pair {
    fn insert(&mut self, node: usize, when: u64) {
        self.remove(node);
        self.bench.insert(node, when);
        self.model.insert(node, when, self.bench.wheel.levels.tick);
    }

    fn remove(&mut self, node: usize) {
        assert_eq!(self.bench.remove(node), self.model.remove(node).is_some());
    }

    fn advance(&mut self, to: u64) {
        self.now = to.max(self.now);
        let mut expired = self.bench.expire_all(self.now);
        let mut due = self.model.due(self.now);
        due.iter().for_each(|node| assert!(self.model.remove(*node).is_some()));
        if std::mem::take(&mut self.left_some) {
            expired.sort();
            due.sort();
        }
        assert_eq!(expired, due, "at {}", self.now);
        assert_eq!(self.bench.wheel.levels.tick, self.now >> TICK);
        assert!(
            self.bench.wheel.is_empty() || self.bench.wheel.horizon > self.now,
            "idle turns are not cheap"
        );
        assert!(self.bench.wheel.next_deadline().is_none_or(|at| at > self.now));
    }

    fn take_some(&mut self, to: u64, most: usize) {
        self.now = to.max(self.now);
        self.left_some = true;
        for _ in 0..most {
            match self.bench.expire(self.now) {
                Some(node) => assert!(self.model.remove(node).is_some_and(|when| when <= self.now)),
                None => assert_eq!(self.model.due(self.now), []),
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.bench.wheel.len, self.model.timers.len());
        let (next, earliest) = (self.bench.wheel.next_deadline(), self.model.earliest());
        assert_eq!(next.is_some(), earliest.is_some());
        // What is due already may be told in any order, as long as it is told to be due.
        assert!(next <= earliest.max(Some(self.now)), "{next:?} is after {earliest:?} at {}", self.now);
    }

    fn border(&self, bit: u32, off: u64) -> u64 {
        (self.now | ((1 << bit) - 1)).saturating_add(1 + off)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert(node, span) => self.insert(node, self.now.saturating_add_signed(span)),
            Step::InsertAt(node, when) => self.insert(node, when),
            Step::InsertAtBorder(node, bit, off) => self.insert(node, self.border(bit, off)),
            Step::AdvanceToBorder(bit, off) => self.advance(self.border(bit, off)),
            Step::Remove(node) => self.remove(node),
            Step::Advance(by) => self.advance(self.now.saturating_add(by)),
            Step::Some(by, most) => self.take_some(self.now.saturating_add(by), most),
            Step::Park => self.advance(self.bench.wheel.next_deadline().unwrap_or(0).min(1 << 62)),
        }
        self.check();
        self.bench.check_invariants();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_as_the_model_does(
        start in prop_oneof![Just(0u64), span(), Just(u64::MAX - 5 * SECOND)],
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 300 }),
    ) {
        let bench = Bench::new(start, NODES);
        let mut pair = Pair { bench, model: Model::default(), now: start, left_some: false };
        steps.iter().for_each(|step| pair.step(step));
        pair.advance(u64::MAX);
        assert!(pair.bench.wheel.is_empty());
    }
}
