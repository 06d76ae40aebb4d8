//! What is drawn.

use crate::figures::{Sample, cores, powers, quantiles, short};
use crate::text;
use demikernel_inspect::protocol::Greeting;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

/// What of the program is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Counters,
    Tasks,
    Connections,
}

/// What there is to show.
pub(crate) struct View {
    pub(crate) page: Page,
    /// The lines of a page of text that are above the screen.
    pub(crate) scrolled: u16,
    pub(crate) before: Sample,
    pub(crate) now: Sample,
    /// The page, if it is one of text.
    pub(crate) text: String,
}

pub(crate) fn draw(frame: &mut Frame<'_>, greeting: &Greeting, view: &View) {
    let all = cores(&view.before, &view.now);
    let table = all.len().min(usize::from(u16::MAX / 2)) as u16 + 3;
    let areas =
        [Constraint::Length(table.min(frame.area().height / 2)), Constraint::Min(0), Constraint::Length(1)];
    let [top, rest, bottom] = Layout::vertical(areas).areas(frame.area());
    let rows = all.iter().map(|core| Row::new(text::row(core)));
    let title = Block::bordered().title(text::title(greeting));
    let table = Table::new(rows, [Constraint::Length(9); 11]).header(header(text::COLUMNS)).block(title);
    frame.render_widget(table, top);
    match view.page {
        Page::Counters => draw_counters(frame, rest, view),
        Page::Tasks | Page::Connections => {
            let name = if view.page == Page::Tasks { "tasks" } else { "connections" };
            let page = Paragraph::new(view.text.as_str()).scroll((view.scrolled, 0));
            frame.render_widget(page.block(Block::bordered().title(name)), rest);
        }
    }
    let silent = view.now.metrics.silent.len();
    let silent = if silent > 0 { format!("   {silent} cores do not answer") } else { String::new() };
    let keys = format!("1 counters  2 tasks  3 connections  up/down  q quit{silent}");
    frame.render_widget(Line::from(keys), bottom);
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names.map(Cell::from)).style(Style::default().add_modifier(Modifier::BOLD))
}

/// Counters on the left, latencies on the right.
fn draw_counters(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let halves = [Constraint::Percentage(55), Constraint::Percentage(45)];
    let [left, right] = Layout::horizontal(halves).areas(area);
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for core in cores(&view.before, &view.now) {
        let number = core.now.core;
        // Those that never counted anything would hide the others.
        for (device, name, count, rate) in core.counters().into_iter().filter(|counter| counter.2 > 0) {
            rows.push(Row::new([number.to_string(), device, name, count.to_string(), short(rate)]));
        }
        for (name, latencies) in core.latencies() {
            lines.push(Line::from(format!("core {number} {name}: {}", quantiles(&latencies))));
            lines.push(Line::from(format!("  [{}] 256 ns ... 17 s", text::bars(&powers(&latencies)))));
        }
    }
    let skipped = usize::from(view.scrolled).min(rows.len());
    let widths = [5, 10, 26, 14, 9].map(Constraint::Length);
    let counters = Table::new(rows.split_off(skipped), widths)
        .header(header(["core", "device", "counter", "count", "/s"]))
        .block(Block::bordered().title("devices"));
    frame.render_widget(counters, left);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("latencies")), right);
}
