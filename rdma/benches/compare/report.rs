//! The table: medians over rounds, and medians of the ratios that were taken inside each round.

/// How messages go to and fro.
const TRIPS: [&str; 3] = ["two threads", "one thread", "one thread, after other code"];

/// Figures by round.
pub(super) struct Report {
    /// By the kinds of [`TRIPS`], of the floor and of ours: p50 of a round's round trips, in us.
    trips: [[Vec<f64>; 2]; TRIPS.len()],
    means: [[Vec<f64>; 2]; TRIPS.len()],
    /// Bytes per second.
    floor: Vec<f64>,
    goodput: Vec<(u32, Vec<f64>)>,
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The median of the ratios inside the rounds.
fn ratio(ours: &[f64], floor: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
    median(&ratios)
}

impl Report {
    /// With these sizes of receive buffers.
    pub(super) fn new(sizes: &[u32]) -> Report {
        let goodput = sizes.iter().map(|size| (*size, Vec::new())).collect();
        Report { trips: Default::default(), means: Default::default(), floor: Vec::new(), goodput }
    }

    /// Round trips of a round, in ns, of a kind, of the floor (0) or ours (1).
    pub(super) fn trips(&mut self, kind: usize, contender: usize, times: &[u64]) {
        let times: Vec<f64> = times.iter().map(|ns| *ns as f64 / 1000.0).collect();
        self.means[kind][contender].push(times.iter().sum::<f64>() / times.len() as f64);
        self.trips[kind][contender].push(median(&times));
    }

    pub(super) fn floor(&mut self, bytes: f64) {
        self.floor.push(bytes);
    }

    pub(super) fn goodput(&mut self, index: usize, bytes: f64) {
        self.goodput[index].1.push(bytes);
    }

    pub(super) fn print(&self) {
        println!(
            "| {:<58} | {:>12} | {:>12} | {:>6} | {:>8} |",
            "", "by hand", "TcpStream", "ratio", "target"
        );
        println!("|{0:-<60}|{0:->14}|{0:->14}|{0:->8}|{0:->10}|", "");
        for (kind, label) in TRIPS.iter().enumerate() {
            for ([floor, ours], what, target) in
                [(&self.trips[kind], "p50", "1.10"), (&self.means[kind], "mean", "")]
            {
                let label = format!("64 B there and back, {label}, {what}, us");
                row(&label, median(floor), median(ours), ratio(ours, floor), target);
            }
        }
        for (size, ours) in &self.goodput {
            let label = format!("64 KiB, MB/s, against ib_send_bw, receive buffers of {size} B");
            let target = if *size == self.goodput[0].0 { "0.90" } else { "" };
            let ratio = ratio(ours, &self.floor);
            row(&label, median(&self.floor) / 1e6, median(ours) / 1e6, ratio, target);
        }
    }
}

fn row(label: &str, floor: f64, ours: f64, ratio: f64, target: &str) {
    println!("| {label:<58} | {floor:>12.2} | {ours:>12.2} | {ratio:>6.2} | {target:>8} |");
}
