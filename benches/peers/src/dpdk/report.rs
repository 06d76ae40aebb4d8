//! The table: medians over rounds, apart for cores that are near to each other and far.

use std::collections::BTreeMap;

/// The round trip of a cache line, in ns, from which on cores are far from each other.
const FAR: f64 = 250.0;

/// Figures by name, in the order in which they came first.
#[derive(Default)]
pub(super) struct Report {
    order: Vec<(String, &'static str)>,
    figures: BTreeMap<(String, bool), Vec<f64>>,
}

impl Report {
    pub(super) fn add(&mut self, name: String, unit: &'static str, line: f64, figure: f64) {
        if !self.order.iter().any(|(known, _)| *known == name) {
            self.order.push((name.clone(), unit));
        }
        self.figures.entry((name, line >= FAR)).or_default().push(figure);
    }

    fn median(&self, name: &str, far: bool) -> Option<f64> {
        let mut figures = self.figures.get(&(name.to_owned(), far))?.clone();
        figures.sort_by(f64::total_cmp);
        Some(figures[figures.len() / 2])
    }

    pub(super) fn print(&self) {
        println!("{:<34} {:>6} {:>10} {:>8} {:>10} {:>8}", "", "", "near", "rounds", "far", "rounds");
        for (name, unit) in &self.order {
            print!("{name:<34} {unit:>6}");
            for far in [false, true] {
                let rounds = self.figures.get(&(name.clone(), far)).map_or(0, Vec::len);
                match self.median(name, far) {
                    Some(median) => print!(" {median:>10.3} {rounds:>8}"),
                    None => print!(" {:>10} {rounds:>8}", "-"),
                }
            }
            println!();
        }
        println!();
        self.compare("UDP above the floor", "udp p50", "raw p50", "us", |one, other| one - other);
        self.compare("TCP above the floor", "tcp p50", "raw p50", "us", |one, other| one - other);
        let times = |one: f64, other: f64| one / other;
        self.compare("spinning kernel TCP / ours", "kernel TCP, raw-epoll-spin p50", "tcp p50", "x", times);
        self.compare("tokio over the kernel / ours", "kernel TCP, tokio p50", "tcp p50", "x", times);
        self.compare("TCP / frames at MTU 1500", "TCP at MTU 1500", "frames of MTU 1500", "x", times);
        self.compare("key-value, DPDK / io_uring", "key-value on DPDK", "key-value on io_uring", "x", times);
    }

    fn compare(&self, label: &str, one: &str, other: &str, unit: &str, with: impl Fn(f64, f64) -> f64) {
        let of = |far| Some(with(self.median(one, far)?, self.median(other, far)?));
        if of(false).is_none() && of(true).is_none() {
            return;
        }
        let text = |far| of(far).map_or("-".to_owned(), |figure| format!("{figure:.3}"));
        println!("{label:<34} {unit:>6} {:>10} {:>8} {:>10}", text(false), "", text(true));
    }
}
