//! The experiments: how each was made, its drawings, its table.

use super::figures::{Figures, gigabits, number, rate, short_time, time};
use super::plot::{Bar, Failed, Line, bars, lines};
use super::{escape, table};
use crate::results::Experiment;
use crate::systems::{Role, SYSTEMS, System};
use plotters::style::RGBColor;

const OURS: RGBColor = RGBColor(0, 114, 178);
const FLOOR: RGBColor = RGBColor(140, 140, 140);
const OTHER: RGBColor = RGBColor(230, 159, 0);
/// Of bars that go on, up to p99.
const TAILS: [RGBColor; 3] = [RGBColor(120, 180, 215), RGBColor(190, 190, 190), RGBColor(245, 210, 130)];

/// A transport's lines, its own and that of its floor; told apart by people who see fewer colours, too.
const FAMILIES: [(&str, RGBColor); 9] = [
    ("dpdk", RGBColor(0, 114, 178)),
    ("rdma", RGBColor(128, 96, 192)),
    ("tap", RGBColor(230, 159, 0)),
    ("packet", RGBColor(204, 121, 167)),
    ("xdp", RGBColor(86, 180, 233)),
    ("io_uring", RGBColor(213, 94, 0)),
    ("epoll", RGBColor(0, 158, 115)),
    ("blocking", RGBColor(150, 120, 70)),
    ("tokio", RGBColor(140, 140, 140)),
];

/// The colour of a system's line: of the system whose floor it is, or its own.
fn line_colour(system: &System) -> RGBColor {
    let above = SYSTEMS.iter().find(|above| above.floor == Some(system.id));
    let id = above.map_or(system.id, |above| above.id);
    FAMILIES.iter().find(|family| family.0 == id).map_or(FLOOR, |family| family.1)
}

/// What stands above a drawing: a colour, a name, and whether it is that of a dashed line.
type Legend<'a> = [(RGBColor, &'a str, bool)];

fn colour(role: Role) -> RGBColor {
    match role {
        Role::Ours => OURS,
        Role::Floor => FLOOR,
        Role::Other => OTHER,
    }
}

pub(super) fn title(experiment: Experiment) -> &'static str {
    match experiment {
        Experiment::Echo => "Echo latency",
        Experiment::Log => "Echo with a synchronous log",
        Experiment::Sizes => "Throughput by message size",
        Experiment::Relay => "UDP relay",
        Experiment::KeyValue => "Key-value, in memory and durable",
    }
}

pub(super) fn method(experiment: Experiment) -> &'static str {
    match experiment {
        Experiment::Echo => {
            "One message of 64 bytes there and back at a time, server and client each on a core of its own. demikernel and \
             the bare systems never wait (idle policy spin), unless the name says so; sockets that block and tokio do. The \
             floor of a transport is the same exchange without demikernel: bare frames of the size that the message has in \
             UDP or TCP over memif; UDP packets sent back as frames by a program on the TAP, packet or AF_XDP device; one \
             receive and one send on a bare io_uring; system calls that never wait, for epoll. What is above the floor is \
             demikernel’s share, of four operations (two sends, two receives); of two where the client is the kernel (TAP, \
             packet, AF_XDP). With TCP these have the floor of UDP, so that the kernel’s TCP at the other end is in the share."
        }
        Experiment::Log => {
            "The echo over TCP, each message appended to a log and durable before it is answered: demikernel’s log in a file, \
             through io_uring, on any transport; write and fdatasync for blocking sockets. demikernel spins for a while and \
             then waits (idle policy adaptive), as the kernel’s threads that wait for the disk need the core."
        }
        Experiment::Sizes => {
            "As NetPIPE: a message there and back over TCP, received whole before it is answered; the throughput is its size by \
             half the round trip. Bare frames go up to one frame of 1514 bytes; the paper’s testpmd has many under way for a \
             message."
        }
        Experiment::Relay => {
            "Datagrams of 64 bytes from a generator on the kernel’s sockets to the relay and back to another socket of the \
             generator; on memif, where no socket of the kernel is, the generator is on demikernel. demikernel’s relay is the \
             example udp-relay, which remembers clients; the kernel’s is a loop of recv and sendto, one that blocks and one \
             that spins."
        }
        Experiment::KeyValue => {
            "The example key-value and redis-server under redis-benchmark: 50 clients with one request under way each, values of \
             64 bytes. Durable means before the reply: --log of the example, appendonly with appendfsync always of \
             redis-server; GET reads from memory in any case and is not repeated. redis-benchmark has one core and the \
             kernel’s sockets, which limits what any server can show. On TAP, packet and AF_XDP it is on the kernel’s side of \
             the wire. The paper has a million keys and 500,000 accesses; here keys are half as many as requests."
        }
    }
}

/// Drawings and the table.
pub(super) fn measured(
    html: &mut String,
    figures: &Figures<'_>,
    experiment: Experiment,
) -> Result<(), Failed> {
    if !figures.results.plan.experiments.contains(&experiment) {
        html.push_str("<p class=\"why\">Not among the experiments of this run.</p>\n");
        return Ok(());
    }
    match experiment {
        Experiment::Echo => echo(html, figures),
        Experiment::Log => log(html, figures),
        Experiment::Sizes => sizes(html, figures),
        Experiment::Relay => relay(html, figures),
        Experiment::KeyValue => key_value(html, figures),
    }
}

/// Systems with a figure of this case, or a reason for having none.
fn systems<'a>(
    figures: &'a Figures<'_>,
    experiment: Experiment,
    case: &'a str,
) -> impl Iterator<Item = &'static System> + 'a {
    SYSTEMS.iter().filter(move |system| {
        let results = figures.results;
        let base = case.split(' ').next().unwrap_or(case);
        let is_of_it = |one: &str| one == case || one == base || one.is_empty();
        results.figures.iter().any(|figure| {
            figure.experiment == experiment && figure.system == system.id && is_of_it(&figure.case)
        }) || results.absent.iter().any(|absent| {
            absent.experiment == experiment && absent.system == system.id && is_of_it(&absent.case)
        })
    })
}

fn figure(html: &mut String, caption: &str, legend: &Legend<'_>, svg: &str) {
    if svg.is_empty() {
        return;
    }
    html.push_str(&format!("<figure><figcaption>{}</figcaption><p class=\"legend\">", escape(caption)));
    for (RGBColor(red, green, blue), name, is_dashed) in legend {
        let class = if *is_dashed { " class=\"dashed\"" } else { "" };
        html.push_str(&format!(
            "<span><i{class} style=\"color:rgb({red},{green},{blue})\"></i>{}</span> ",
            escape(name)
        ));
    }
    html.push_str(&format!("</p><div class=\"scroll\">{svg}</div></figure>\n"));
}

fn echo(html: &mut String, figures: &Figures<'_>) -> Result<(), Failed> {
    let legend = [
        (OURS, "demikernel’s share", false),
        (FLOOR, "the transport without it", false),
        (OTHER, "others, all of it", false),
    ];
    for (case, name) in [("tcp", "TCP"), ("udp", "UDP")] {
        let mut rows = Vec::new();
        for system in systems(figures, Experiment::Echo, case) {
            let Ok([low, middle, high]) = figures.quartiles(Experiment::Echo, system.id, case, "p50") else {
                continue;
            };
            // Floors are parts of other bars, and in the table.
            if system.role == Role::Floor {
                continue;
            }
            let parts = match figures.above_floor(system.id, case) {
                // Taken inside of rounds, it may be more than the median of all.
                Ok([_, share, _]) => {
                    let share = share.clamp(0.0, middle);
                    vec![(middle - share, FLOOR), (share, OURS)]
                }
                Err(_) => vec![(middle, colour(system.role))],
            };
            let (label, text) = (system.label.to_owned(), short_time(middle));
            rows.push(Bar { label, parts, between: Some((low, high)), text });
        }
        let caption = format!("{name}, 64 bytes: median round trip (p50), with quartiles over rounds");
        let svg = bars(&caption, &rows, short_time)?;
        figure(html, &caption, &legend, &svg);
        html.push_str(&echo_table(figures, case));
    }
    Ok(())
}

fn echo_table(figures: &Figures<'_>, case: &str) -> String {
    let rows = systems(figures, Experiment::Echo, case).map(|system| {
        let of = |metric| figures.quartiles(Experiment::Echo, system.id, case, metric);
        let label = escape(system.label);
        let (p50, p99) = match (of("p50"), of("p99")) {
            (Ok(p50), Ok(p99)) => (p50, p99),
            (Err(why), _) | (_, Err(why)) => return vec![label, escape(&why)],
        };
        let (above, share) = match (figures.above_floor(system.id, case), figures.share(system.id, case)) {
            (Ok(above), Ok(share)) => (time(above), time(share)),
            _ => Default::default(),
        };
        vec![label, time(p50), time(p99), above, share]
    });
    let name = case.to_uppercase();
    let head = [name.as_str(), "p50", "p99", "above the floor", "of it, an operation"];
    table(&head, &rows.collect::<Vec<_>>())
}

fn log(html: &mut String, figures: &Figures<'_>) -> Result<(), Failed> {
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for system in systems(figures, Experiment::Log, "tcp") {
        let label = system.label.to_owned();
        let of = |metric| figures.quartiles(Experiment::Log, system.id, "tcp", metric);
        let (p50, p99) = match (of("p50"), of("p99")) {
            (Ok(p50), Ok(p99)) => (p50, p99),
            (Err(why), _) | (_, Err(why)) => {
                lines.push(vec![escape(&label), escape(&why)]);
                continue;
            }
        };
        let without =
            figures.quartiles(Experiment::Echo, system.id, "tcp", "p50").map_or(String::new(), time);
        lines.push(vec![escape(&label), time(p50), time(p99), without]);
        let [low, middle, high] = p50;
        let parts = vec![(middle, colour(system.role))];
        rows.push(Bar { label, parts, between: Some((low, high)), text: short_time(middle) });
    }
    let caption =
        "TCP, 64 bytes, durable before the answer: median round trip (p50), with quartiles over rounds";
    let legend = [(OURS, "demikernel", false), (OTHER, "write and fdatasync", false)];
    figure(html, caption, &legend, &bars(caption, &rows, short_time)?);
    html.push_str(&table(&["TCP with a log", "p50", "p99", "p50 without a log"], &lines));
    Ok(())
}

/// Sizes that were measured of any system, in order.
fn all_sizes(figures: &Figures<'_>) -> Vec<usize> {
    let of_sizes = figures.results.figures.iter().filter(|figure| figure.experiment == Experiment::Sizes);
    let mut sizes: Vec<_> = of_sizes.filter_map(|figure| figure.case.parse().ok()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn size_text(size: usize) -> String {
    match size {
        1024.. if size.is_multiple_of(1024) => format!("{} KiB", size / 1024),
        _ => format!("{size} B"),
    }
}

fn sizes(html: &mut String, figures: &Figures<'_>) -> Result<(), Failed> {
    let sizes = all_sizes(figures);
    let (mut drawn, mut legend, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let concerned = SYSTEMS.iter().filter(|system| {
        let results = figures.results;
        let is_it = |experiment: Experiment, name: &str| experiment == Experiment::Sizes && name == system.id;
        results.figures.iter().any(|figure| is_it(figure.experiment, &figure.system))
            || results.absent.iter().any(|absent| is_it(absent.experiment, &absent.system))
    });
    for system in concerned {
        let of = |size: &usize| gigabits(figures, system.id, &size.to_string());
        let points: Vec<_> =
            sizes.iter().filter_map(|size| Some((*size as f64, of(size).ok()?[1]))).collect();
        if points.is_empty() {
            let why = figures.results.why_absent(Experiment::Sizes, system.id, "").unwrap_or("not measured");
            rows.push(vec![escape(system.label), escape(why)]);
            continue;
        }
        let mut row = vec![escape(system.label)];
        row.extend(sizes.iter().map(|size| of(size).map_or(String::new(), |[_, middle, _]| number(middle))));
        rows.push(row);
        let (colour, is_dashed) = (line_colour(system), system.role != Role::Ours);
        legend.push((colour, system.label, is_dashed));
        drawn.push(Line { points, colour, is_dashed });
    }
    let caption = "TCP, messages there and back, one at a time: Gb/s by the size of a message (dashed: without demikernel)";
    let svg =
        lines(caption, &drawn, ("bytes of a message", "Gb/s"), |size| size_text(size.round() as usize))?;
    figure(html, caption, &legend, &svg);
    let names: Vec<_> = sizes.iter().map(|size| size_text(*size)).collect();
    let head: Vec<_> = std::iter::once("Gb/s").chain(names.iter().map(String::as_str)).collect();
    html.push_str(&table(&head, &rows));
    Ok(())
}

fn relay(html: &mut String, figures: &Figures<'_>) -> Result<(), Failed> {
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for system in systems(figures, Experiment::Relay, "udp") {
        let label = system.label.to_owned();
        let of = |metric| figures.quartiles(Experiment::Relay, system.id, "udp", metric);
        let (mean, p50, p99) = match (of("mean"), of("p50"), of("p99")) {
            (Ok(mean), Ok(p50), Ok(p99)) => (mean, p50, p99),
            (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => {
                lines.push(vec![escape(&label), escape(&why)]);
                continue;
            }
        };
        lines.push(vec![escape(&label), time(mean), time(p50), time(p99)]);
        let tail = TAILS[system.role as usize];
        let parts = vec![(mean[1], colour(system.role)), ((p99[1] - mean[1]).max(0.0), tail)];
        let text = format!("{} / {}", short_time(mean[1]), short_time(p99[1]));
        rows.push(Bar { label, parts, between: None, text });
    }
    let caption = "UDP, 64 bytes, over the relay and back: average, and p99 in the lighter colour";
    let legend =
        [(OURS, "demikernel", false), (FLOOR, "bare sockets", false), (OTHER, "a loop that blocks", false)];
    figure(html, caption, &legend, &bars(caption, &rows, short_time)?);
    html.push_str(&table(&["relay", "average", "p50", "p99"], &lines));
    Ok(())
}

fn key_value(html: &mut String, figures: &Figures<'_>) -> Result<(), Failed> {
    const CASES: [(&str, &str); 3] =
        [("memory set", "in memory, SET"), ("memory get", "in memory, GET"), ("durable set", "durable, SET")];
    let legend = [(OURS, "demikernel", false), (OTHER, "redis-server", false)];
    for (case, name) in CASES {
        let mut rows = Vec::new();
        for system in systems(figures, Experiment::KeyValue, case) {
            if let Ok([low, middle, high]) = figures.quartiles(Experiment::KeyValue, system.id, case, "rate")
            {
                let (label, text) = (system.label.to_owned(), number(middle));
                let parts = vec![(middle, colour(system.role))];
                rows.push(Bar { label, parts, between: Some((low, high)), text });
            }
        }
        let caption = format!("{name}: requests per second, with quartiles over rounds");
        let svg = bars(&caption, &rows, |value| format!("{} k", value / 1000.0))?;
        figure(html, &caption, &legend, &svg);
    }
    let rows = systems(figures, Experiment::KeyValue, "memory set").map(|system| {
        let of = |case: &str| figures.rounds(Experiment::KeyValue, system.id, case, "rate");
        let mut row = vec![escape(system.label)];
        if let Err(why) = of("memory set") {
            row.push(escape(&why));
            return row;
        }
        for (case, _) in CASES {
            let cell = figures.quartiles(Experiment::KeyValue, system.id, case, "rate").map(rate);
            row.push(escape(&cell.unwrap_or_else(|why| why)));
        }
        let redis = figures.rounds(Experiment::KeyValue, "redis", "memory set", "rate");
        let ratio = of("memory set").and_then(|own| Ok(rate(figures.ratios(&own, &redis?))));
        row.push(ratio.unwrap_or_default());
        row
    });
    let head =
        ["requests/s", "SET, in memory", "GET, in memory", "SET, durable", "SET in memory to redis-server"];
    html.push_str(&table(&head, &rows.collect::<Vec<_>>()));
    Ok(())
}
