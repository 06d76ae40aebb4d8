use super::*;
use crate::results::{Absent, tests::RECORDED};
use crate::systems::{Role, SYSTEMS, named};
use roxmltree::{Document, Node};

/// A page of figures that are made up.
fn page() -> String {
    render(&serde_json::from_str(RECORDED).expect("it is read")).expect("it is drawn")
}

/// The page as XML, which it is written to be.
fn parse(page: &str) -> Document<'_> {
    let html = page.strip_prefix("<!DOCTYPE html>").expect("it begins so");
    Document::parse(html).unwrap_or_else(|error| panic!("the page is not well formed: {error}"))
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn section<'a>(document: &'a Document<'_>, id: &str) -> Node<'a, 'a> {
    let section = document.descendants().find(|node| node.attribute("id") == Some(id));
    section.unwrap_or_else(|| panic!("there is no section {id}"))
}

/// The cells of the rows of a section that begin with this.
fn rows(document: &Document<'_>, id: &str, first: &str) -> Vec<Vec<String>> {
    let rows = section(document, id).descendants().filter(|node| node.has_tag_name("tr"));
    let cells = |row: Node<'_, '_>| row.children().map(text).collect::<Vec<_>>();
    rows.map(cells).filter(|cells| cells[0] == first).collect()
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
    let page = page();
    let document = parse(&page);
    let names = ["script", "link", "img", "iframe", "object", "image", "use"];
    assert!(!document.descendants().any(|node| names.iter().any(|name| node.has_tag_name(*name))));
    let references = ["src", "href"];
    assert!(!document.descendants().any(|node| references.iter().any(|name| node.has_attribute(*name))));
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn every_experiment_has_a_drawing_a_table_and_what_is_published() {
    let page = page();
    let document = parse(&page);
    for experiment in Experiment::ALL {
        let section = section(&document, &format!("figure-{}", experiment.figure()));
        let count = |name: (&'static str, &'static str)| {
            section.descendants().filter(|node| node.has_tag_name(name)).count()
        };
        assert!(count(("http://www.w3.org/2000/svg", "svg")) > 0, "{experiment:?} has no drawing");
        assert!(
            section.descendants().filter(|node| node.has_tag_name("table")).count() >= 2,
            "{experiment:?}"
        );
        let claims = CLAIMS.iter().filter(|claim| claim.experiment == experiment);
        for claim in claims {
            assert!(text(section).contains(claim.paper), "{:?}", claim.what);
        }
    }
}

#[test]
fn what_is_absent_says_why() {
    let page = page();
    let document = parse(&page);
    let why = "no RDMA device: nothing in /sys/class/infiniband";
    assert_eq!(rows(&document, "transports", "rdma"), [["rdma", "no", why]]);
    for figure in ["figure-5", "figure-7", "figure-8", "figure-10"] {
        let rows = rows(&document, figure, "demikernel: RDMA");
        assert!(
            !rows.is_empty() && rows.iter().all(|row| *row == ["demikernel: RDMA", why]),
            "{figure}: {rows:?}"
        );
    }
    let xdp = rows(&document, "figure-11", "demikernel: stack on AF_XDP");
    assert_eq!(xdp[0][1], "no network namespace: Operation not permitted; it takes root");
    let claim = rows(&document, "figure-5", "Demikernel's share, Catmint (RDMA)");
    assert_eq!(claim[0][3], why);
}

#[test]
fn what_failed_in_some_rounds_is_said_beside_what_did_not() {
    let mut results: Results = serde_json::from_str(RECORDED).unwrap();
    assert!(!render(&results).unwrap().contains("failed in a round"));
    let (system, case, why) = ("redis".to_owned(), "durable".to_owned(), "it <ended>".to_owned());
    results.absent.push(Absent { experiment: Experiment::KeyValue, system, case, why });
    let page = render(&results).unwrap();
    let section = text(section(&parse(&page), "figure-11"));
    assert!(section.contains("redis-server durable failed in a round: it <ended>"), "{section}");
}

#[test]
fn shares_and_ratios_are_those_of_the_record() {
    let page = page();
    let document = parse(&page);
    // Round trips of 2 and 4 us on floors of 1 and 2 us, in two rounds: 1 and 2 us for four operations.
    let dpdk = rows(&document, "figure-5", "demikernel: stack on DPDK, memif");
    let expected =
        ["3.00 µs (2.50 to 3.50)", "6.00 µs (5.00 to 7.00)", "1.50 µs (1.25 to 1.75)", "375 ns (312 to 438)"];
    assert_eq!(dpdk[0][1..], expected);
    let claim = rows(&document, "figure-5", "Demikernel's share, Catnip UDP");
    assert_eq!(claim[0][1..], ["125 ns a packet", "stack on DPDK, UDP", "375 ns (312 to 438) an operation"]);
    let claim = rows(&document, "figure-11", "in memory, Catnap to Redis");
    assert_eq!(claim[0][3], "1.25 (1.25 to 1.25)");
    let claim = rows(&document, "figure-10", "saved by io_uring");
    assert_eq!(claim[0][3], "52.5 µs (43.8 to 61.2)");
}

#[test]
fn text_of_the_machine_is_text() {
    let page = page();
    let document = parse(&page);
    let machine = text(section(&document, "machine"));
    assert!(
        machine.contains("A processor <of no kind>, 2 cores") && machine.contains("yes, Nobody's & Sons")
    );
    assert!(page.contains("2000-02-29 12:34 UTC"));
}

#[test]
fn a_busy_machine_and_a_short_run_are_said_first() {
    let mut results: Results = serde_json::from_str(RECORDED).unwrap();
    assert!(render(&results).unwrap().contains("A short run"), "two rounds are too few");
    results.plan.rounds = 3;
    assert!(!render(&results).unwrap().contains("class=\"warning\""));
    results.machine.load.push(5.0);
    assert!(render(&results).unwrap().contains("The machine was busy"));
}

#[test]
fn a_run_without_figures_is_a_page() {
    let mut results: Results = serde_json::from_str(RECORDED).unwrap();
    results.figures.clear();
    results.plan.experiments = vec![Experiment::Log];
    let page = render(&results).unwrap();
    assert!(text(section(&parse(&page), "figure-5")).contains("Not among the experiments"));
}

#[test]
fn claims_name_systems_that_are_there() {
    let results: Results = serde_json::from_str(RECORDED).unwrap();
    let figures = Figures { results: &results };
    for claim in &CLAIMS {
        // An unknown name would be "not measured in this run" for ever.
        if let Err(why) = claim.beside(&figures) {
            assert_ne!(why, "there is no floor to take off", "{}", claim.what);
        }
    }
    let ours = SYSTEMS.iter().filter(|system| system.role == Role::Ours);
    assert!(
        ours.filter(|system| system.floor.is_none())
            .all(|system| ["rdma", "io_uring-block"].contains(&system.id))
    );
    assert!(named("redis").is_some());
}
