//! The page: one file with everything in it.
//!
//! - [`figures`]: medians and quartiles over rounds, and what is compared inside of them.
//! - [`plot`]: drawings. [`sections`]: an experiment's drawings and tables.

pub(crate) mod figures;
mod plot;
mod sections;

use crate::published::{CLAIMS, SETUP};
use crate::results::{Experiment, Results};
use crate::systems;
use figures::{Figures, number};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// Characters that mean something in HTML, as text.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A table; cells are HTML.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    head.iter().for_each(|cell| html.push_str(&format!("<th>{}</th>", escape(cell))));
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        let (last, others) = row.split_last().expect("rows have cells");
        others.iter().for_each(|cell| html.push_str(&format!("<td>{cell}</td>")));
        // What says why there is nothing takes the place of the cells that are not there.
        let span = match head.len() - others.len() {
            1 => String::new(),
            more => format!(" class=\"why\" colspan=\"{more}\""),
        };
        html.push_str(&format!("<td{span}>{last}</td></tr>"));
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// The page.
pub(crate) fn render(results: &Results) -> Result<String, plot::Failed> {
    let figures = Figures { results };
    let mut html = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
    html.push_str("<title>demikernel: the paper's evaluation, again</title>\n");
    writeln!(html, "<style>\n{STYLE}</style></head>\n<body><main>")?;
    head(&mut html, results)?;
    machine(&mut html, results);
    transports(&mut html, results);
    for experiment in Experiment::ALL {
        writeln!(
            html,
            "<section id=\"figure-{}\"><h2>{} <small>Fig. {} of the paper</small></h2>",
            experiment.figure(),
            escape(sections::title(experiment)),
            experiment.figure()
        )?;
        writeln!(html, "<p>{}</p>", escape(sections::method(experiment)))?;
        sections::measured(&mut html, &figures, experiment)?;
        failures(&mut html, results, experiment);
        published(&mut html, &figures, experiment);
        html.push_str("</section>\n");
    }
    html.push_str("</main></body></html>\n");
    Ok(html)
}

fn head(html: &mut String, results: &Results) -> std::fmt::Result {
    let plan = &results.plan;
    html.push_str("<h1>The Demikernel paper’s evaluation, again</h1>\n");
    writeln!(
        html,
        "<p>The experiments of sections 7.3 to 7.5 of Zhang et al., <cite>The Demikernel Datapath OS Architecture for \
         Microsecond-scale Datacenter Systems</cite> (SOSP 2021), with demikernel for Rust in the place of its library \
         operating systems, on the transports that this machine has. Measured {} in {} interleaved rounds, {} ms for each \
         latency in each round, every process started anew. Figures are medians over rounds, with the first and third \
         quartile in brackets; differences and ratios are taken inside of rounds.</p>",
        date(plan.unix_time),
        plan.rounds,
        plan.milliseconds
    )?;
    let machine = &results.machine;
    let load = machine.load.iter().copied().fold(0.0, f64::max);
    // Both ends of a connection keep the average near 2 by themselves.
    if load > 2.0 + machine.cores as f64 / 2.0 {
        writeln!(
            html,
            "<p class=\"warning\"><strong>The machine was busy with other things</strong>: up to {} processes wanted one of {} \
             cores. These figures say that the experiments work, and nothing about how fast anything is.</p>",
            number(load),
            machine.cores
        )?;
    }
    if plan.milliseconds < 100 || plan.rounds < 3 {
        html.push_str("<p class=\"warning\"><strong>A short run</strong>: too few rounds, or too short ones, to compare.</p>\n");
    }
    Ok(())
}

/// Days since the epoch as a date of the Gregorian calendar, in UTC.
fn date(unix_time: u64) -> String {
    let days = unix_time as i64 / 86_400 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (unix_time / 3600 % 24, unix_time / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn list(values: &[f64]) -> String {
    values.iter().map(|value| number(*value)).collect::<Vec<_>>().join(", ")
}

/// This machine beside the paper's, row by row.
fn machine(html: &mut String, results: &Results) {
    let machine = &results.machine;
    let here = |what: &str| {
        match what {
        "processor" => format!("{}, {} cores", machine.processor, machine.cores),
        "network" => "no wire and no card: loopback, TAP and veth of one kernel, and shared memory between two processes \
                      (memif), which have no switch in between"
            .to_owned(),
        "disk" => format!(
            "a file on {}: through io_uring for demikernel, by write and fdatasync for others",
            machine.file_system
        ),
        "virtual machine" => match &machine.virtual_machine {
            Some(name) => format!("yes, {name}: the host may run others on the same cores"),
            None => "no".to_owned(),
        },
        "governor" => machine.governor.clone().unwrap_or("the kernel does not say".to_owned()),
        "memory for devices" if machine.free_huge_pages > 0 => {
            format!("{} free huge pages of 2 MB", machine.free_huge_pages)
        }
        "memory for devices" => "ordinary pages: no huge ones are free".to_owned(),
        "priority" => "ordinary; server on core 0, client on core 1".to_owned(),
        _ => format!("{} rounds, medians", results.plan.rounds),
    }
    };
    let mut rows: Vec<_> =
        SETUP.iter().map(|(what, paper)| vec![escape(what), escape(&here(what)), escape(paper)]).collect();
    let only = |what: &str, text: String| vec![what.to_owned(), escape(&text), String::new()];
    rows.push(only("kernel", format!("Linux {}, {} MiB of memory", machine.kernel, machine.memory_mib)));
    let programs: Vec<_> = machine.programs.values().cloned().collect();
    rows.push(only("programs", programs.join("; ")));
    rows.push(only("load before and after rounds", list(&machine.load)));
    rows.push(only("cache line to the other core and back, ns", list(&machine.cache_line)));
    html.push_str("<section id=\"machine\"><h2>The machines</h2>\n");
    html.push_str(&table(&["", "here", "in the paper"], &rows));
    html.push_str(
        "<p>So absolute figures of the two are not comparable: a round trip here crosses no wire, and one of the kernel’s no \
         driver of a card. What can be compared is what a system adds to its own floor, and ratios between systems of one \
         column. On a virtual machine the two cores may be near to each other or far, which changes between starts and moves \
         whatever goes through shared memory: the last row tells.</p></section>\n",
    );
}

fn transports(html: &mut String, results: &Results) {
    let rows = results.transports.iter().map(|transport| {
        let state = transport.missing.as_deref().map_or("yes", |_| "no");
        let why = transport.missing.as_deref().unwrap_or("");
        vec![escape(&transport.name), state.to_owned(), escape(why)]
    });
    html.push_str("<section id=\"transports\"><h2>The transports</h2>\n");
    html.push_str(&table(&["transport", "measured", "why not"], &rows.collect::<Vec<_>>()));
    html.push_str("</section>\n");
}

/// What failed in a round, and has figures of others.
fn failures(html: &mut String, results: &Results, experiment: Experiment) {
    for absent in results.absent.iter().filter(|absent| absent.experiment == experiment) {
        let has_figures = results.figures.iter().any(|figure| {
            figure.experiment == experiment
                && figure.system == absent.system
                && (absent.case.is_empty() || figure.case.split(' ').next() == Some(&absent.case))
        });
        if has_figures {
            let label = systems::named(&absent.system).map_or(absent.system.as_str(), |system| system.label);
            let text = format!("{label} {} failed in a round: {}", absent.case, absent.why);
            html.push_str(&format!("<p class=\"why\">{}</p>\n", escape(&text)));
        }
    }
}

/// The paper's figures beside ours.
fn published(html: &mut String, figures: &Figures<'_>, experiment: Experiment) {
    let rows = CLAIMS.iter().filter(|claim| claim.experiment == experiment).map(|claim| {
        let (ours, class) = match claim.beside(figures) {
            Ok(ours) => (ours, ""),
            Err(why) => (why, " class=\"why\""),
        };
        let beside = format!("<span{class}>{}</span>", escape(&ours));
        vec![escape(claim.what), escape(claim.paper), escape(claim.here), beside]
    });
    html.push_str("<h3>Published, and here</h3>\n<div class=\"published\">");
    html.push_str(&table(&["", "the paper", "the nearest here", "here"], &rows.collect::<Vec<_>>()));
    html.push_str("</div>\n");
}

#[cfg(test)]
mod tests;
