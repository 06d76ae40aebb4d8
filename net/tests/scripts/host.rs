//! The host under test: sockets by number, one connection, and what has left.

use crate::parse::{Call, Expected, Line, OURS, Step, THEIRS, Time};
use demikernel_net::tcp::{
    Config, Connection, Ecn, Error, InTimeWait, InitialNumbers, Limits, Listener, OnSyn, Receiving, Shared,
    Start, Ticket, TimeWait, reset_for,
};
use demikernel_net::wire::tcp::{Flags, Segment, SequenceNumber};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// How early or late something may leave; what packetdrill has, too.
const TOLERANCE: Duration = Duration::from_millis(4);

/// When scripts begin: the clock of timestamps is then at 1000.
const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

const LOCAL_PORT: u16 = 8080;
const REMOTE_PORT: u16 = 40_000;

/// By how much a connection that the peer opens anew is ahead of the one before.
const NEXT: u32 = 1 << 20;

/// Segments that leave without a pause between; more are an endless loop.
const MOST: usize = 1000;

pub(crate) struct Host {
    now: Instant,
    /// When the line before was.
    line: Instant,
    shared: Rc<Shared>,
    sockets: BTreeMap<usize, Socket>,
    connection: Option<Connection>,
    /// Of a connection that its listener has not given away.
    ticket: Option<Ticket>,
    time_wait: Option<TimeWait>,
    /// By how much the numbers of the connection that goes on are ahead of those of the first: ours, the peer's.
    shift: (u32, u32),
    /// SO_RCVBUF, which connections take over from their listener.
    receive_buffer: Option<u32>,
    /// TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
    keepalive: (u64, u64, u32),
    left: VecDeque<(Instant, Segment, u32)>,
}

enum Socket {
    Fresh,
    Listening(Listener<()>),
    Connected,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host {
            now: BEGIN,
            line: BEGIN,
            shared: Rc::new(Shared::new(Config::default())),
            sockets: BTreeMap::new(),
            connection: None,
            ticket: None,
            time_wait: None,
            shift: (0, 0),
            receive_buffer: None,
            keepalive: (7200, 75, 9),
            left: VecDeque::new(),
        }
    }

    pub(crate) fn step(&mut self, line: &Line) -> Result<(), String> {
        self.line = match line.time {
            Time::At(time) => BEGIN + time,
            Time::After(time) => self.line + time,
        };
        if self.line + TOLERANCE < self.now {
            return Err("this is before the line above".to_owned());
        }
        match &line.step {
            Step::Sends(expected) => self.expect(expected),
            Step::Receives(segment, length) => {
                self.advance(self.line)?;
                self.nothing_left()?;
                self.handle(segment, *length);
                self.transmit()
            }
            Step::Calls(call) => {
                self.advance(self.line)?;
                self.nothing_left()?;
                let result = self.call(call)?;
                if result != call.result {
                    return Err(format!("it returns {result}, expected {}", call.result));
                }
                self.transmit()
            }
        }
    }

    pub(crate) fn finish(&self) -> Result<(), String> {
        self.nothing_left()
    }

    fn expect(&mut self, expected: &Expected) -> Result<(), String> {
        let until = self.line + TOLERANCE;
        while self.left.is_empty() {
            match self.deadline().filter(|deadline| *deadline <= until) {
                Some(deadline) => self.advance(deadline.max(self.now))?,
                None => return Err(format!("expected {}, nothing left", expected.text)),
            }
        }
        let Some((time, segment, length)) = self.left.pop_front() else { unreachable!() };
        let mut wanted = Segment { source: LOCAL_PORT, destination: REMOTE_PORT, ..expected.segment };
        if expected.any_window {
            wanted.window = segment.window;
        }
        if expected.any_options {
            wanted.options = segment.options;
        }
        if !segment.flags.contains(Flags::ACK) {
            wanted.acknowledgment = segment.acknowledgment;
        }
        if (segment, length) != (wanted, expected.length) {
            return Err(format!("expected {}, it is {}", expected.text, describe(&segment, length)));
        }
        if time + TOLERANCE < self.line || time > until {
            let (wanted, was) = (seconds(self.line), seconds(time));
            return Err(format!("expected {} at {wanted}, it left at {was}", expected.text));
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<(), String> {
        let Some((time, segment, length)) = self.left.front() else { return Ok(()) };
        let ago = self.now.duration_since(*time).as_secs_f64();
        Err(format!("unexpected, {ago:.6} s before: {}", describe(segment, *length)))
    }

    fn deadline(&self) -> Option<Instant> {
        self.connection.as_ref().and_then(Connection::next_deadline)
    }

    /// Keeps all deadlines until then.
    fn advance(&mut self, until: Instant) -> Result<(), String> {
        while let Some(deadline) = self.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            if let Some(connection) = &mut self.connection {
                connection.handle_deadline(self.now);
            }
            self.transmit()?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn transmit(&mut self) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        while let Some(transmit) = connection.poll_transmit(self.now, &Limits::default()) {
            let segment = relative(&transmit.segment, self.shift);
            self.left.push_back((self.now, segment, transmit.payload.len() as u32));
            if self.left.len() > MOST {
                return Err("it sends for ever".to_owned());
            }
        }
        if let Some(time_wait) = connection.take_time_wait() {
            self.time_wait = Some(time_wait);
        }
        Ok(())
    }

    fn handle(&mut self, segment: &Segment, length: u32) {
        let mut segment = Segment { source: REMOTE_PORT, destination: LOCAL_PORT, ..*segment };
        let begins = segment.flags.contains(Flags::SYN) && !segment.flags.contains(Flags::ACK);
        let time_wait = self.time_wait.filter(|time_wait| self.now < time_wait.until());
        if begins && time_wait.is_some() {
            self.shift.1 += NEXT;
        }
        segment.sequence += self.shift.1;
        segment.acknowledgment += self.shift.0;
        if let Some(mut time_wait) = time_wait {
            let answer = time_wait.handle_segment(self.now, &segment, length);
            self.time_wait = Some(time_wait);
            match answer {
                InTimeWait::Drop => {}
                InTimeWait::Answer(answer) => {
                    self.left.push_back((self.now, relative(&answer, self.shift), 0));
                }
                InTimeWait::Reopen(initial) => {
                    self.time_wait = None;
                    self.shift.0 = initial - OURS;
                    self.open(&segment);
                }
            }
            return;
        }
        if self.connection.as_ref().is_some_and(|connection| !connection.is_finished()) {
            self.deliver(&segment, length);
        } else if !self.open(&segment) {
            let reset = reset_for(&segment, length);
            self.left.extend(reset.map(|reset| (self.now, relative(&reset, self.shift), 0)));
        }
    }

    fn deliver(&mut self, segment: &Segment, length: u32) {
        let Some(connection) = &mut self.connection else { return };
        let payload = Buffer::from(vec![b'p'; length as usize]);
        connection.handle_segment(self.now, segment, payload, Ecn::NotCapable);
        let listener = self.sockets.values_mut().find_map(|socket| match socket {
            Socket::Listening(listener) => Some(listener),
            _ => None,
        });
        if let (Some(listener), Some(ticket)) = (listener, self.ticket) {
            if connection.state().is_synchronized() {
                listener.complete(ticket);
                self.ticket = None;
            } else if connection.is_finished() {
                listener.abandon(ticket);
                self.ticket = None;
            }
        }
    }

    /// Whether there was a listener for it.
    fn open(&mut self, segment: &Segment) -> bool {
        let begins = segment.flags.contains(Flags::SYN) && !segment.flags.intersects(Flags::ACK | Flags::RST);
        for socket in self.sockets.values_mut().filter(|_| begins) {
            let Socket::Listening(listener) = socket else { continue };
            if listener.on_syn(self.now) == OnSyn::Accept {
                self.ticket = Some(listener.begin(self.now, ()));
                let start = start(OURS + self.shift.0);
                let mut connection = Connection::accept(self.shared.clone(), self.now, start, segment);
                if let Some(octets) = self.receive_buffer {
                    connection.set_receive_buffer(octets);
                }
                self.connection = Some(connection);
            }
            return true;
        }
        false
    }

    /// What a call returns, as it is written.
    fn call(&mut self, call: &Call) -> Result<String, String> {
        let argument = |index: usize| {
            let text = call.arguments.get(index).map(String::as_str).unwrap_or_default();
            text.parse::<usize>().map_err(|_| format!("{text:?} is not a number"))
        };
        if call.name == "socket" {
            return Ok(self.add(Socket::Fresh).to_string());
        }
        let number = argument(0)?;
        let Some(socket) = self.sockets.get_mut(&number) else { return Ok("-1 EBADF".to_owned()) };
        let result = match (call.name.as_str(), socket) {
            ("bind", Socket::Fresh) => Ok(0),
            ("listen", Socket::Fresh) => {
                *self.sockets.entry(number).or_insert(Socket::Fresh) =
                    Socket::Listening(Listener::new(argument(1)?, 16, false));
                Ok(0)
            }
            ("connect", Socket::Fresh) => {
                self.sockets.insert(number, Socket::Connected);
                self.connection = Some(Connection::connect(self.shared.clone(), self.now, start(OURS)));
                Err("EINPROGRESS")
            }
            ("setsockopt", Socket::Fresh | Socket::Listening(_)) => match option(call) {
                Some(("SO_RCVBUF", octets)) => {
                    self.receive_buffer = Some(octets);
                    Ok(0)
                }
                _ => return Err("no such option of such a socket here".to_owned()),
            },
            ("accept", Socket::Listening(listener)) => match listener.accept() {
                Some(()) => Ok(self.add(Socket::Connected)),
                None => Err("EAGAIN"),
            },
            ("close", Socket::Fresh | Socket::Listening(_)) => {
                self.sockets.remove(&number);
                Ok(0)
            }
            (name, Socket::Connected) => self.call_connected(name, number, call, argument(2).ok())?,
            (name, _) => return Err(format!("no {name} of such a socket here")),
        };
        Ok(result.map_or_else(|error| format!("-1 {error}"), |value| value.to_string()))
    }

    fn call_connected(
        &mut self,
        name: &str,
        number: usize,
        call: &Call,
        length: Option<usize>,
    ) -> Result<Result<usize, &'static str>, String> {
        let now = self.now;
        let connection = self.connection.as_mut().ok_or("it is not connected")?;
        if let Some(error) = connection.take_error().filter(|_| name != "close") {
            return Ok(Err(errno(error)));
        }
        let length = length.ok_or_else(|| format!("{name} of how many octets?"));
        let has = |text: &str| call.arguments.iter().any(|argument| argument == text);
        Ok(match name {
            "write" => {
                let mut data = Sga::from(Buffer::from(vec![b'w'; length?]));
                match connection.send(now, &mut data) {
                    Ok(0) => Err("EAGAIN"),
                    result => result.map_err(errno),
                }
            }
            "read" => match connection.receive(now, length?) {
                Ok(Receiving::Data(data)) => Ok(data.len()),
                Ok(Receiving::Nothing) => Err("EAGAIN"),
                Ok(Receiving::End) => Ok(0),
                Err(error) => Err(errno(error)),
            },
            "shutdown" if has("SHUT_WR") => connection.shutdown_write(now).map(|()| 0).map_err(errno),
            "setsockopt" => {
                set(connection, now, &mut self.keepalive, option(call).ok_or("no option is set")?)?;
                Ok(0)
            }
            "close" => {
                connection.close(now);
                self.sockets.remove(&number);
                Ok(0)
            }
            _ => return Err(format!("no {name} of such arguments here")),
        })
    }

    fn add(&mut self, socket: Socket) -> usize {
        let number = (3..).find(|number| !self.sockets.contains_key(number)).unwrap_or(3);
        self.sockets.insert(number, socket);
        number
    }
}

/// The option that a call sets, and its value: `setsockopt(3, SOL_TCP, TCP_NODELAY, [1], 4)`.
fn option(call: &Call) -> Option<(&str, u32)> {
    let value = call.arguments.get(3)?.strip_prefix('[')?.strip_suffix(']')?;
    Some((call.arguments.get(2)?, value.parse().ok()?))
}

fn set(
    connection: &mut Connection,
    now: Instant,
    keepalive: &mut (u64, u64, u32),
    (name, value): (&str, u32),
) -> Result<(), String> {
    match name {
        "TCP_NODELAY" => connection.set_no_delay(value != 0),
        "TCP_CORK" => connection.set_cork(value != 0),
        "TCP_USER_TIMEOUT" => {
            let timeout = Duration::from_millis(value.into());
            connection.set_user_timeout(now, Some(timeout).filter(|timeout| !timeout.is_zero()));
        }
        "SO_KEEPALIVE" => connection.set_keepalive(now, value != 0),
        "TCP_KEEPIDLE" => keepalive.0 = value.into(),
        "TCP_KEEPINTVL" => keepalive.1 = value.into(),
        "TCP_KEEPCNT" => keepalive.2 = value,
        _ => return Err(format!("no {name} here")),
    }
    if name.starts_with("TCP_KEEP") {
        let (idle, interval, count) = *keepalive;
        let seconds = Duration::from_secs;
        connection.set_keepalive_times(now, seconds(idle), seconds(interval), count);
    }
    Ok(())
}

/// As if the connection were the first.
fn relative(segment: &Segment, shift: (u32, u32)) -> Segment {
    let mut segment = *segment;
    segment.sequence = segment.sequence - shift.0;
    segment.acknowledgment = segment.acknowledgment - shift.1;
    segment
}

fn start(sequence: SequenceNumber) -> Start {
    let initial = InitialNumbers { sequence, timestamp_offset: 0 };
    Start { local: LOCAL_PORT, remote: REMOTE_PORT, initial, mtu: 1500, ip_header: 20 }
}

fn errno(error: Error) -> &'static str {
    match error {
        Error::Refused => "ECONNREFUSED",
        Error::Reset => "ECONNRESET",
        Error::TimedOut => "ETIMEDOUT",
        Error::NotConnected => "ENOTCONN",
        Error::BrokenPipe => "EPIPE",
        _ => "another error",
    }
}

fn seconds(time: Instant) -> String {
    format!("{:.6}", time.duration_since(BEGIN).as_secs_f64())
}

/// As it would be in a script.
fn describe(segment: &Segment, length: u32) -> String {
    let relative = |number: SequenceNumber, first: SequenceNumber| number.value().wrapping_sub(first.value());
    let begin = relative(segment.sequence, OURS);
    let mut text = format!("{:?} {begin}:{}({length})", segment.flags, begin.wrapping_add(length));
    if segment.flags.contains(Flags::ACK) {
        text += &format!(" ack {}", relative(segment.acknowledgment, THEIRS));
    }
    text += &format!(" win {}", segment.window);
    let mut options = Vec::new();
    options.extend(segment.options.maximum_segment_size.map(|size| format!("mss {size}")));
    options.extend(segment.options.sack_permitted.then(|| "sackOK".to_owned()));
    options.extend(segment.options.timestamps.map(|ts| format!("TS val {} ecr {}", ts.value, ts.echo)));
    options.extend(segment.options.window_scale.map(|shift| format!("wscale {shift}")));
    for block in segment.options.sack.iter() {
        options.push(format!("sack {}:{}", relative(block.left, THEIRS), relative(block.right, THEIRS)));
    }
    if !options.is_empty() {
        text += &format!(" <{}>", options.join(","));
    }
    text
}
