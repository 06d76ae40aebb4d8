//! The terminal, and what is pressed.

use crate::figures::Sample;
use crate::screen::{Page, View, draw};
use crate::text;
use anyhow::Result;
use demikernel_inspect::Client;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// Shows the program until somebody has seen enough, or it ends.
pub(crate) fn run(client: &mut Client, interval: Duration, most: usize) -> Result<()> {
    let before = Sample::take(client)?;
    let now = Sample::take(client)?;
    let mut view = View { page: Page::Counters, scrolled: 0, before, now, text: String::new() };
    let mut terminal = ratatui::init();
    let result = show(&mut terminal, client, &mut view, interval, most);
    // Before an error is printed.
    ratatui::restore();
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    client: &mut Client,
    view: &mut View,
    interval: Duration,
    most: usize,
) -> Result<()> {
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            next = Instant::now() + interval;
            view.before = std::mem::replace(&mut view.now, Sample::take(client)?);
            fetch(client, view, most)?;
        }
        terminal.draw(|frame| draw(frame, client.greeting(), view))?;
        if event::poll(next.saturating_duration_since(Instant::now()))?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let page = view.page;
            if !pressed(key, view) {
                return Ok(());
            }
            if view.page != page {
                view.scrolled = 0;
                fetch(client, view, most)?;
            }
        }
    }
}

fn fetch(client: &mut Client, view: &mut View, most: usize) -> Result<()> {
    view.text = match view.page {
        Page::Counters => String::new(),
        Page::Tasks => text::tasks(&client.dump(most)?),
        Page::Connections => text::connections(&client.connections(most)?),
    };
    Ok(())
}

/// Whether it goes on.
fn pressed(key: KeyEvent, view: &mut View) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('1') => view.page = Page::Counters,
        KeyCode::Char('2') => view.page = Page::Tasks,
        KeyCode::Char('3') => view.page = Page::Connections,
        KeyCode::Down => view.scrolled = view.scrolled.saturating_add(1),
        KeyCode::Up => view.scrolled = view.scrolled.saturating_sub(1),
        KeyCode::PageDown => view.scrolled = view.scrolled.saturating_add(20),
        KeyCode::PageUp => view.scrolled = view.scrolled.saturating_sub(20),
        _ => {}
    }
    true
}
