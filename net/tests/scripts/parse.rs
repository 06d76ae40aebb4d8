//! Lines of a script.

use demikernel_net::wire::tcp::{Flags, SackBlock, Segment, SequenceNumber, Timestamps};
use std::time::Duration;

/// The first numbers of the host and of its peer: near the end, so that both wrap.
pub(crate) const OURS: SequenceNumber = SequenceNumber::new(u32::MAX - 999);
pub(crate) const THEIRS: SequenceNumber = SequenceNumber::new(u32::MAX - 499);

/// One line.
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) time: Time,
    pub(crate) step: Step,
}

#[derive(Clone, Copy)]
pub(crate) enum Time {
    /// From the beginning.
    At(Duration),
    /// Since the line before.
    After(Duration),
}

pub(crate) enum Step {
    /// The peer sends it, with so many octets.
    Receives(Segment, u32),
    /// It must leave.
    Sends(Expected),
    Calls(Call),
}

/// What must leave.
pub(crate) struct Expected {
    pub(crate) segment: Segment,
    pub(crate) length: u32,
    pub(crate) any_window: bool,
    pub(crate) any_options: bool,
    pub(crate) text: String,
}

pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    /// A number, and the name of an error if that is -1.
    pub(crate) result: String,
}

pub(crate) fn script(text: &str) -> Result<Vec<Line>, String> {
    let text = without_comments(text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, text): (usize, &str)| {
        let number = index + 1;
        line(number, text.trim()).map_err(|error| format!("{number}: {error}"))
    };
    lines.map(parse).collect()
}

/// Comments become blanks, so that lines keep their numbers.
fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, comment)) = rest.split_once("/*") {
        let (comment, behind) = comment.split_once("*/").unwrap_or((comment, ""));
        kept.push_str(before);
        kept.extend(comment.chars().filter(|c| *c == '\n'));
        rest = behind;
    }
    kept.push_str(rest);
    let without = |line: &str| line.split_once("//").map_or(line, |(line, _)| line).to_owned() + "\n";
    kept.lines().map(without).collect()
}

fn line(number: usize, text: &str) -> Result<Line, String> {
    let (time, rest) = text.split_once(char::is_whitespace).ok_or("there is a time and nothing else")?;
    let rest = rest.trim_start();
    let (first, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let step = match first {
        "<" => {
            let (segment, length, ..) = segment(behind, OURS, THEIRS)?;
            Step::Receives(segment, length)
        }
        ">" => {
            let (segment, length, any_window, any_options) = segment(behind, THEIRS, OURS)?;
            Step::Sends(Expected { segment, length, any_window, any_options, text: behind.trim().to_owned() })
        }
        _ => Step::Calls(call(rest).ok_or_else(|| format!("{first:?} is not a direction nor a call"))?),
    };
    Ok(Line { number, time: parse_time(time).ok_or_else(|| format!("{time:?} is not a time"))?, step })
}

fn parse_time(text: &str) -> Option<Time> {
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    match text.strip_prefix('+') {
        Some(text) => seconds(text).map(Time::After),
        None => seconds(text).map(Time::At),
    }
}

/// The segment, the octets in it, and whether its window and its options can be any.
fn segment(
    text: &str,
    acknowledged: SequenceNumber,
    first: SequenceNumber,
) -> Result<(Segment, u32, bool, bool), String> {
    let (head, options) = match text.split_once('<') {
        Some((head, options)) => (head, options.trim_end().strip_suffix('>').ok_or("options do not end")?),
        None => (text, ""),
    };
    let mut words = head.split_whitespace();
    let mut segment = Segment { flags: flags(words.next().unwrap_or_default())?, ..Segment::default() };
    let range = words.next().unwrap_or_default();
    let (begin, length) = parse_range(range).ok_or_else(|| format!("{range} does not add up"))?;
    segment.sequence = first + begin;
    let mut any_window = true;
    while let Some(word) = words.next() {
        let number = words.next().and_then(|number| number.parse::<u32>().ok());
        match (word, number) {
            ("ack", Some(number)) => segment.acknowledgment = acknowledged + number,
            ("win", Some(number)) => {
                segment.window = u16::try_from(number).map_err(|_| format!("a window of {number}"))?;
                any_window = false;
            }
            _ => return Err(format!("{word:?} is not `ack` or `win` with a number")),
        }
    }
    let any_options = options.trim() == "...";
    if !any_options {
        for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            parse_option(option, acknowledged, &mut segment)
                .ok_or_else(|| format!("{option:?} is not an option"))?;
        }
    }
    Ok((segment, length, any_window, any_options))
}

fn flags(text: &str) -> Result<Flags, String> {
    let mut flags = Flags::NONE;
    for letter in text.chars() {
        flags |= match letter {
            'F' => Flags::FIN,
            'S' => Flags::SYN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            'U' => Flags::URG,
            'E' => Flags::ECE,
            'W' => Flags::CWR,
            _ => return Err(format!("{text:?} are not flags")),
        };
    }
    Ok(flags)
}

/// `1:11(10)`.
fn parse_range(text: &str) -> Option<(u32, u32)> {
    let (begin, rest) = text.split_once(':')?;
    let (end, length) = rest.strip_suffix(')')?.split_once('(')?;
    let (begin, end, length): (u32, u32, u32) =
        (begin.parse().ok()?, end.parse().ok()?, length.parse().ok()?);
    (begin.checked_add(length) == Some(end)).then_some((begin, length))
}

fn parse_option(text: &str, acknowledged: SequenceNumber, segment: &mut Segment) -> Option<()> {
    let words: Vec<_> = text.split_whitespace().collect();
    let options = &mut segment.options;
    match words.as_slice() {
        ["nop" | "eol"] => {}
        ["sackOK"] => options.sack_permitted = true,
        ["mss", size] => options.maximum_segment_size = Some(size.parse().ok()?),
        ["wscale", shift] => options.window_scale = Some(shift.parse().ok()?),
        ["TS", "val", value, "ecr", echo] => {
            options.timestamps = Some(Timestamps { value: value.parse().ok()?, echo: echo.parse().ok()? });
        }
        ["sack", blocks @ ..] if !blocks.is_empty() => {
            for block in blocks {
                let (left, right) = block.split_once(':')?;
                let at = |number: &str| Some(acknowledged + number.parse::<u32>().ok()?);
                let block = SackBlock { left: at(left)?, right: at(right)? };
                options.sack.push(block).then_some(())?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// `name(arguments) = result`, and what the system says of an error in brackets.
fn call(text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) =
        rest.rsplit_once(") = ").filter(|_| name.chars().all(|c| c.is_ascii_lowercase()))?;
    let result = result.split_once('(').map_or(result, |(result, _)| result).trim();
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.split(',').map(|argument| argument.trim().to_owned()).collect(),
        result: result.to_owned(),
    })
}
